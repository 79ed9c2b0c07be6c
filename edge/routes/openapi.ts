import type { Context } from 'hono'
import { PROTOCOL_VERSION } from '../../shared/protocol/version.ts'
import { openApiDocument } from '../openapi/document.ts'

let json: string | undefined

/** `GET /openapi.json`; needs no key. */
export function openApi(c: Context): Response {
  json ??= JSON.stringify(openApiDocument(`v${PROTOCOL_VERSION}`))
  return c.body(json, 200, {
    'content-type': 'application/json; charset=utf-8',
    'access-control-allow-origin': '*',
  })
}
