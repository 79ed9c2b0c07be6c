/** What clients ask for that apar does not do. By the path, as the APIs of OpenAI, Anthropic and vLLM spell it. */
const NOT_SERVED: readonly (readonly [path: RegExp, what: string])[] = [
  [/^\/v1\/embeddings\b/, 'embeddings are not supported'],
  [/^\/v1\/(images|videos)\b/, 'images and videos are not supported'],
  [/^\/v1\/(audio|realtime)\b/, 'audio is not supported'],
  [/^\/v1\/(rerank|score|classify|pooling|moderations)\b/, 'scores and classes of texts are not supported'],
  [/^\/v1\/(messages\/)?batches\b/, 'batches are not supported'],
  [/^\/v1\/(files|uploads|vector_stores|containers)\b/, 'files are not stored'],
  [/^\/v1\/chat\/completions\/input_tokens$/, 'tokens of a chat are counted at /tokenize'],
  [/^\/v1\/(chat\/completions|conversations)\b/, 'only responses are stored'],
  [/^\/v1\/responses\/compact$/, 'conversations are not compacted'],
  [/^\/v1\/(assistants|threads)\b/, 'assistants are not supported'],
  [/^\/v1\/fine_tuning\b/, 'models are tuned with apar train, not over HTTP'],
  [/^\/v1\/complete$/, 'text completions are at /v1/completions'],
]

/** A sentence for a call that some other server answers; undefined for a path that no API has. */
export function whyNotServed(path: string): string | undefined {
  const found = NOT_SERVED.find(([pattern]) => pattern.test(path))
  return found && `apar serves text generation only: ${found[1]}`
}
