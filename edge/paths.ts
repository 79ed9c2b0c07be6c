import { getPath } from 'hono/utils/url'

/** Paths below /v1 that clients also call without the version. */
const UNVERSIONED =
  /^\/(chat\/completions|completions|responses|messages|models|tokenize|detokenize|tokenizer_info|apply-template)(?=\/|$)/
/** What Azure's clients put in front of a path. The name of a deployment is in the body, too, as the model. */
const AZURE = /^\/openai(?=\/(?:v1|responses|models)(?:\/|$))|^\/openai\/deployments\/[^/]+(?=\/)/

/**
 * The path by which a request is routed, whatever the client's spelling of it: `/chat/completions/`, `//v1/models` and
 * `/v1//models` (from a base URL that ends with a slash), `/openai/v1/responses`.
 */
export function routedPath(request: Request): string {
  const path = getPath(request).replace(/\/{2,}/g, '/')
  const trimmed = path.replace(/(?<=[^/])\/$/, '')
  return trimmed.replace(AZURE, '').replace(UNVERSIONED, '/v1/$1')
}
