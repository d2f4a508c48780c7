"""Every route of the server, what is asked most often first. A new dialect is one line here."""

from tracemill.server import health, jobs, own, traces
from tracemill.server.dialects import (
    anthropic_batches,
    anthropic_messages,
    cohere_chat,
    cohere_embed,
    cohere_rerank,
    gemini_embed,
    gemini_generate,
    models,
    openai_batches,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_files,
    openai_finetuning,
    openai_models,
    openai_moderations,
    openai_responses,
)
from tracemill.server.routes import Route

ROUTES: tuple[Route, ...] = (
    *openai_chat.ROUTES,
    *openai_responses.ROUTES,
    *openai_embeddings.ROUTES,
    *openai_completions.ROUTES,
    *openai_moderations.ROUTES,
    *openai_files.ROUTES,
    *openai_finetuning.ROUTES,
    *openai_models.ROUTES,
    *openai_batches.ROUTES,
    *anthropic_messages.ROUTES,
    *gemini_generate.ROUTES,
    *gemini_embed.ROUTES,
    *cohere_chat.ROUTES,
    *cohere_embed.ROUTES,
    *cohere_rerank.ROUTES,
    *models.ROUTES,
    *anthropic_batches.ROUTES,
    *jobs.ROUTES,
    *own.ROUTES,
    *traces.ROUTES,
    *health.ROUTES,
)
