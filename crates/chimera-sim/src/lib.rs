//! Simulated LLM providers that speak the OpenAI, Anthropic and Gemini dialects
