/**
 * The address of an API path below `baseUrl`, whose own path is kept: an edge may lie below a prefix. The `/v1` at the
 * end, with which other APIs' base URLs are written, is the API's own.
 * @throws TypeError when `baseUrl` is not a URL.
 */
export function endpoint(baseUrl: string, path: `/${string}`): URL {
  const url = new URL(baseUrl)
  url.pathname = url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '') + path
  url.search = ''
  url.hash = ''
  return url
}

/** As {@link endpoint}, for a WebSocket. */
export function socketEndpoint(baseUrl: string): URL {
  const url = endpoint(baseUrl, '/v1/stream')
  url.protocol = url.protocol === 'https:' || url.protocol === 'wss:' ? 'wss:' : 'ws:'
  return url
}
