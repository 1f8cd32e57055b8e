//! Wire formats of LLM APIs as data: OpenAI, Anthropic and Gemini
