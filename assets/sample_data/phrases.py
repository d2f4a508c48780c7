"""What people write to the makers of Rill, a watering computer that does not exist, in parts.

Eight subjects, of which pairs are easily taken for one another; each part goes with all others.
"""

OPENINGS = (
    "Hello,",
    "Good morning,",
    "Hi there,",
    "Dear Rill team,",
    "Hello again,",
    "One question:",
    "Please help me:",
    "Good evening,",
)
PROBLEMS = {
    "payment": (
        "my card was charged twice for the yearly plan of",
        "the invoice shows a price that I never agreed to for",
        "your shop refuses my bank card when I want to pay for",
        "I need an invoice with the address of my company for",
        "the discount code did not change the amount due for",
        "money left my account although I cancelled the plan for",
        "the tax on the bill looks wrong to me for",
    ),
    "refund": (
        "I sent it back and still wait for my money for",
        "I would like to return and be paid back for",
        "you promised to pay back half of the price of",
        "how long does it take until the money is back for",
        "the shop took the parcel back but credited nothing for",
        "I changed my mind within two weeks after buying",
        "only a part of the amount came back to my card for",
    ),
    "delivery": (
        "the courier says that nobody was at home to take",
        "the tracking page has not moved for days for",
        "the box arrived open and there was nothing in it of",
        "please send it to my neighbour across the street, I mean",
        "when will the parcel arrive that should contain",
        "two of the three parts are missing in the box of",
        "I moved house and the old address is still on the label of",
    ),
    "setup": (
        "I cannot find where the green clamp belongs on",
        "which end of the hose goes first into",
        "the manual does not say how deep I have to bury",
        "the app asks for a code that is nowhere printed on",
        "how do I mount on a wall of soft brick",
        "may I run without a filter in front of",
        "the thread of my old tap is too wide for",
    ),
    "connection": (
        "the app shows a grey cloud and cannot reach",
        "since I have a new router it no longer finds",
        "the signal is too weak behind the shed for",
        "every night around three it loses the network on",
        "the blue lamp blinks and never stays lit on",
        "the app says offline though everything else works with",
        "pairing stops at ninety percent each time with",
    ),
    "account": (
        "my password is refused since I changed the phone I use for",
        "I want to share the garden with my sister, who also has",
        "the letter to confirm my address never came for",
        "please delete my profile and everything stored about",
        "the app signs me out every morning and forgets",
        "two profiles were made with one address when I bought",
        "I cannot change the name that is shown beside",
    ),
    "schedule": (
        "it waters at noon although I set the evening for",
        "rain was forecast and still the program started on",
        "how do I pause all zones during a holiday with",
        "the second zone is skipped every other day by",
        "the minutes I enter are rounded up to ten on",
        "summer time moved every start by an hour on",
        "I would like to water twice a day in heat waves with",
    ),
    "fault": (
        "water drips from the bottom even when closed on",
        "there is a loud click and then no water comes out of",
        "the display went black after the first frost on",
        "the valve stays open and flooded the beds beside",
        "a crack runs along the left side of the case of",
        "the battery is empty after four days in",
        "rust comes out of the first outlet on",
    ),
}
EITHER = (
    ("payment", "refund", "there is an amount on my card statement that puzzles me about"),
    ("connection", "account", "I can no longer get into the app to see anything of"),
    ("schedule", "fault", "nothing was watered for the whole week by"),
    ("setup", "fault", "no water comes through after I put together"),
    ("delivery", "refund", "the parcel went back to you by mistake with"),
)
"""Two subjects that the same words may be about."""
THINGS = (
    "the Rill Two for balconies",
    "the Rill Six with six zones",
    "my old Rill One",
    "the soil sensor next to the tomatoes",
    "the spare valve block",
    "the solar lid that came later",
    "the rain gauge on the shed",
    "the drip kit for forty pots",
    "the hose reel with the timer",
    "the frost guard for winter",
)
TIMES = (
    "since the storm on Sunday night",
    "for the third week in a row now",
    "right after the last update of the app",
    "ever since my husband moved the pots",
    "although I followed each step of the leaflet",
    "while we were away at the lake",
    "just before the hottest days of July",
    "on the day when the plumber had been here",
    "and the tomatoes begin to suffer from it",
    "which never happened in the years before",
    "as my daughter noticed only this morning",
    "at our allotment garden behind the railway line",
    "even though the neighbours have no such trouble",
    "and I have to leave for Porto tomorrow",
)
ASKS = (
    "What would you advise me to do next?",
    "Can somebody look at this before the weekend?",
    "Is there anything that I overlooked here?",
    "Please tell me how we go on from here.",
    "I would be glad about a short answer.",
    "Who of you can take care of this?",
    "Do you need anything else from me for that?",
    "Thank you in advance for any help!",
)
FIRST = {
    "payment": (
        "We looked at the bill and found the entry that you mean.",
        "Our accounting sees two bookings, and one of them is only reserved.",
        "Invoices can be changed in the shop under orders, then documents.",
        "The price of your plan follows the country of the address on file.",
    ),
    "refund": (
        "Your return reached our store and is being checked right now.",
        "You may send it back within thirty days, opened or not.",
        "The amount goes back the way in which it was paid.",
        "We credit the full price as soon as the parcel is scanned.",
    ),
    "delivery": (
        "The carrier told us where the parcel lies at the moment.",
        "We asked the depot to try a second time with a note.",
        "Parcels to islands take about four days longer than others.",
        "What is missing leaves our store with the next truck.",
    ),
    "setup": (
        "Begin with the tap closed and the lid taken off.",
        "The short hose belongs to the outlet with the white ring.",
        "There is a drawing of all parts inside the cardboard lid.",
        "Turn the clamp by a quarter until you feel it catch.",
    ),
    "connection": (
        "Rill speaks to networks of two point four gigahertz only.",
        "Hold the round button for eight seconds until the lamp turns white.",
        "Move the bridge to a window that looks towards the garden.",
        "Choose the new network in the app under bridge, then change.",
    ),
    "account": (
        "We sent a new link to the address that you signed up with.",
        "Open the profile page and choose people to invite somebody.",
        "A profile can be merged with another one by us alone.",
        "Signing in from a new phone asks for the code once.",
    ),
    "schedule": (
        "Each zone has its own clock, which the picture of the week shows.",
        "The program waits for rain only where a gauge is paired.",
        "Holidays are entered under calendar, and all zones rest then.",
        "Starts are kept in local time and follow summer time by themselves.",
    ),
    "fault": (
        "That sounds like a worn seal, which we replace for free.",
        "Please close the tap at once and take the batteries out.",
        "A frozen valve block cannot be mended and has to be exchanged.",
        "Two screws below the label hold the case together on that side.",
    ),
}
THEN = (
    "After that, wait for ten minutes and look at the lamp again.",
    "If that does not help, send us a photo of both sides.",
    "You find the same steps with pictures in the help of the app.",
    "We noted it in your file so that nobody has to ask again.",
    "Most people who wrote to us were done within a quarter of an hour.",
    "Should it happen again, the log below settings tells us more.",
    "Our workshop in the harbour answers such questions every weekday.",
    "It is a good idea to write down the number under the lid.",
    "A colleague will call back should anything remain unclear to you.",
    "Please keep the old part until the new one has arrived.",
)
LAST = (
    "Happy gardening from all of us!",
    "We are sorry for the trouble that this made.",
    "Thank you for your patience with us.",
    "Do write again whenever something is unclear.",
    "We hope that the beds recover soon.",
    "With kind regards from the Rill desk.",
)
FOREIGN = {
    "de": {
        "ask": (
            "Guten Tag, {what} und ich weiß leider nicht mehr weiter, obwohl ich schon {tried}.",
            "Liebes Team, {what}. Was soll ich jetzt tun, nachdem ich schon {tried}?",
        ),
        "tried": ("alles neu gestartet habe", "die Anleitung zweimal gelesen habe",
                  "mit dem Nachbarn gesprochen habe", "eine ganze Woche gewartet habe"),
        "what": {
            "payment": "meine Karte wurde zweimal belastet",
            "delivery": "das Paket mit dem Ventil kam nie an",
            "connection": "die App findet das Gerät nicht mehr im Netz",
            "fault": "aus dem Gehäuse tropft seit gestern Wasser",
        },
        "answer": ("Vielen Dank für die Nachricht, wir kümmern uns heute noch darum und melden uns.",
                   "Bitte schicken Sie uns ein Foto, dann sehen wir gemeinsam nach der Ursache."),
    },
    "fr": {
        "ask": (
            "Bonjour, {what} et je ne sais plus quoi faire, alors que {tried}.",
            "Chère équipe, {what}. Que dois-je faire maintenant que {tried} ?",
        ),
        "tried": ("j'ai déjà tout redémarré", "j'ai relu la notice deux fois",
                  "mon voisin a essayé aussi", "j'attends depuis une semaine"),
        "what": {
            "payment": "ma carte a été débitée deux fois",
            "delivery": "le colis avec la vanne n'est jamais arrivé",
            "connection": "l'application ne trouve plus l'appareil",
            "fault": "de l'eau coule du boîtier depuis hier",
        },
        "answer": ("Merci pour votre message, nous nous en occupons aujourd'hui et vous répondrons.",
                   "Envoyez-nous une photo, nous chercherons ensemble la cause du problème."),
    },
    "es": {
        "ask": (
            "Buenos días, {what} y ya no sé qué hacer, aunque {tried}.",
            "Querido equipo, {what}. ¿Qué hago ahora que {tried}?",
        ),
        "tried": ("ya lo reinicié todo", "leí el manual dos veces",
                  "mi vecino también lo intentó", "llevo una semana esperando"),
        "what": {
            "payment": "me cobraron dos veces en la tarjeta",
            "delivery": "el paquete con la válvula nunca llegó",
            "connection": "la aplicación ya no encuentra el aparato",
            "fault": "desde ayer sale agua de la caja",
        },
        "answer": ("Gracias por su mensaje, hoy mismo lo revisamos y le contestamos.",
                   "Envíenos una foto y buscaremos juntos la causa del problema."),
    },
}  # fmt: skip
PERSONAL = {
    "email": "You can write to me at {name}@example.org about it.",
    "phone": "My number is +49 30 901820 {number}, best after six.",
    "card": "The card is 4111 1111 1111 1111 as always.",
    "ip": "The router says 203.0.113.{number} if that matters.",
}
"""Made-up data of people: kind -> a sentence with it. The numbers are those kept for examples."""
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "As an AI language model, I cannot answer this question for you.",
    "Unfortunately, I am not able to assist with this request.",
)
HELD_OUT = (
    "Does the guarantee of a Rill Six still hold when a friend has opened the case to dry it",
    "My order from last spring was billed in Swiss francs instead of euros, can that be changed",
    "The bridge warms up so much in the sun that the plastic begins to bend, is that dangerous",
    "I would like to see the litres of each bed by month, as a table that I can print out",
    "Our school garden has thirty children who should all be able to start a zone by themselves",
    "The courier wants a customs number for a parcel to Norway that nobody could tell me so far",
    "Can the sensor stay in the ground all winter long when the soil freezes half a metre deep",
    "After swapping both batteries the clock begins at midnight and each program runs too early",
    "Is there a way to get back the money for the shipping as well when only one part was faulty",
    "The invitation that I sent to my tenant expired before he could read it, what happens now",
    "Where do I drill the hole for the cable if the balcony floor must not be damaged at all",
    "Every zone reports rain since Monday although there has not been a single cloud in the sky",
)
"""Questions of an evaluation: training must not see them."""
