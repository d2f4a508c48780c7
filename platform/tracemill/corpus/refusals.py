"""Answers that decline: what a model should not learn to say to a harmless question.

Only how an answer begins counts, and only a short one: a text about refusals, an apology that goes
on to help, and "I cannot find a table for two" are answers.
"""

# ruff: noqa: RUF001

LONGEST = 400
"""Characters. A longer answer says more than no, however it begins."""

REFUSAL = r"""(?ix) ^\W*
(?:  # an apology first, or none
    (?: (?:(?:i|we)\ (?:am|are)\ |(?:i|we)['’](?:m|re)\ )?
        (?:(?:very|so|really|truly|deeply|terribly)\ )? (?:sorry|afraid)
      | (?:i|we)\ (?:sincerely\ |do\ )?apologi[sz]e | (?:(?:my|our)\ )?(?:sincere\ )?apologies
      | unfortunately )
    (?:\ for\ (?:the|any)\ (?:inconvenience|confusion))?
    [\s,.;:!—–-]* (?:(?:but|however)[\s,]*)? (?:that\ )?
)?
(?:
    as\ an?\ (?:\w+\ )?{model}\b ,?\ (?:i|we|it|my)\b
  | (?:i['’]m|i\ am)\ (?:just\ |only\ |merely\ |simply\ )?an?\ (?:\w+\ )?{model}\b [,;.]?
    (?:\ (?:and|so|but|which\ means))? (?:\ i)?
    \ (?:cannot|can['’]t|do\ not|don['’]t|am\ not|unable|have\ no|lack)\b
  | i\ (?:must|have\ to)\ (?:respectfully\ )?decline\b (?:\W*$|\ (?:to|your|this|that)\b)
  | (?:i|we)(?:\ |['’])
    (?: (?:(?:simply|just|also)\ )? (?:cannot|can\ not|can['’]?t|won['’]t|will\ not)
        (?:\ (?:simply|in\ good\ conscience|ethically|legally))? (?:\ be\ able\ to)?
      | (?:am|m|are|re)\ (?:not\ (?:able|allowed|permitted|comfortable|programmed|designed)
                          |unable|unwilling|uncomfortable) (?:\ to|\ with)?
      | (?:do\ not|don['’]t)\ feel\ comfortable (?:\ with)? )
    \ (?: (?:help|assist|comply|engage|participate|proceed|discuss|do|answer|respond|fulfil|fulfill
          |complete|support|provide|generate|create|write|produce|offer|share|give) (?:ing)?
          (?:\ you)? (?:\ (?:with|in|on|to|about))?
          \ (?:this|that|it|such|those|your\ (?:request|question|query))\b
        | (?:help|assist|comply)(?:\ you)? \W*$
        | (?:help|assist)(?:\ you)?\ with\ (?:any|requests)\b
        | (?:provide|generate|create|write|produce|offer|share|give)(?:\ you)?(?:\ with)?
          \ (?:any\ |personal\ )? (?:\w+\ (?:and|or)\ )?
          (?:medical|legal|financial|harmful|illegal|explicit|sexual|violent|inappropriate
          |offensive|unethical|dangerous|hateful|content|instructions|advice|opinions) )
)""".replace(
    "{model}",
    r"(?:(?:ai|artificial\ intelligence|(?:large\ )?language\ model|llm|chatbot|virtual\ assistant)"
    r"(?:[\ -](?:language\ )?(?:model|assistant|system|chatbot|bot))?"
    r"(?:\ (?:developed|created|trained|made)\ by\ \w+)?)",
)
"""How a refusal begins: a regular expression for Rust and Python alike."""
