import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A repository of the hub. */
export interface FakeModel {
  files: Record<string, Buffer>
  /** Files from this size on lie on the other host (Git LFS). Default 1,000 bytes. */
  lfsFrom?: number
  /** Branches and tags besides `main`, with their files. */
  revisions?: Record<string, Record<string, Buffer>>
  gated?: boolean
  private?: boolean
}

export interface HubRequest {
  /** `hub`, or `store`, the host with the large files. */
  host: 'hub' | 'store'
  path: string
  range: string | undefined
  authorization: string | undefined
}

type Intercept = (asked: HubRequest, response: ServerResponse, content: Buffer | undefined) => boolean

/** A server that speaks the parts of the hub's API that apar uses, and a second one for large files. */
export interface FakeHub {
  readonly url: string
  readonly models: Map<string, FakeModel>
  /** New names of repositories that have moved. */
  readonly moved: Map<string, string>
  /** The token that opens gated and private repositories. */
  readonly token: string
  readonly requests: HubRequest[]
  /** May answer in place of the hub; true when it has. `content` is that of the file that is asked for. */
  intercept: Intercept
  close(): Promise<void>
}

const PAGE = 3

export const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex')
export const gitSha1 = (content: Buffer) =>
  createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
/** The commit of a revision that has these files. */
export const commitOf = (files: Record<string, Buffer>) =>
  createHash('sha1')
    .update(JSON.stringify(Object.entries(files).map(([path, content]) => [path, sha256(content)])))
    .digest('hex')

export async function startFakeHub(): Promise<FakeHub> {
  const store = createServer()
  const hub = createServer()
  const [storeUrl, url] = await Promise.all([listen(store), listen(hub)])
  const fake: FakeHub = {
    url,
    models: new Map(),
    moved: new Map(),
    token: 'hf_the-token-of-the-tests',
    requests: [],
    intercept: () => false,
    close: async () => {
      for (const server of [hub, store]) {
        server.closeAllConnections()
        server.close()
      }
    },
  }
  const blobs = () =>
    [...fake.models.values()].flatMap(({ files, revisions = {} }) =>
      [files, ...Object.values(revisions)].flatMap((one) => Object.values(one)),
    )
  store.on('request', (request, response) => {
    const asked = record(fake, 'store', request)
    const content = blobs().find((blob) => asked.path.startsWith(`/${sha256(blob)}`))
    if (fake.intercept(asked, response, content)) return
    if (content && asked.path.endsWith('?signature=secret')) return sendRange(request, response, content)
    response.writeHead(403).end()
  })
  hub.on('request', (request, response) => {
    const asked = record(fake, 'hub', request)
    const [, repo = '', file] =
      /^\/(?:api\/models\/)?([^/]+\/[^/?]+)(?:\/resolve\/[^/]+\/(.*))?/.exec(asked.path) ?? []
    const content = file === undefined ? undefined : fileOf(fake, repo, asked.path, file)
    if (!fake.intercept(asked, response, content)) answer(fake, asked, request, response, storeUrl)
  })
  return fake
}

function answer(
  fake: FakeHub,
  asked: HubRequest,
  request: IncomingMessage,
  response: ServerResponse,
  storeUrl: string,
): void {
  const refuse = (status: number, code: string) =>
    response
      .writeHead(status, { 'x-error-code': code, 'content-type': 'application/json' })
      .end(JSON.stringify({ error: `${code} of the tests` }))
  const url = new URL(asked.path, fake.url)
  const [, api, repo = '', rest = ''] = /^\/(api\/models\/)?([^/]+\/[^/]+)\/(.*)$/.exec(url.pathname) ?? []
  const newName = fake.moved.get(repo)
  if (newName !== undefined) {
    response.writeHead(307, { location: asked.path.replace(repo, newName) }).end()
    return
  }
  const model = fake.models.get(repo)
  const authorized = asked.authorization === `Bearer ${fake.token}`
  if (!model || (model.private && !authorized)) return void refuse(authorized ? 404 : 401, 'RepoNotFound')
  const [action = '', revision = '', ...path] = rest.split('/').map(decodeURIComponent)
  const files = filesOf(model, revision)
  if (!files) return void refuse(404, 'RevisionNotFound')
  const commit = commitOf(files)
  if (api && action === 'revision') {
    const about = { _id: '1', id: repo, sha: commit, private: false, gated: model.gated ? 'manual' : false }
    sendJson(response, { ...about, downloads: 1, likes: 1, lastModified: '2026-01-01T00:00:00.000Z' })
    return
  }
  if (api && action === 'tree') {
    sendTree(fake, url, model, files, response)
    return
  }
  const content = files[path.join('/')]
  if (action !== 'resolve' || !content) return void refuse(404, 'EntryNotFound')
  if (model.gated && !authorized) return void refuse(401, 'GatedRepo')
  response.setHeader('x-repo-commit', commit)
  if (content.length < (model.lfsFrom ?? 1000)) {
    response.setHeader('etag', `"${gitSha1(content)}"`)
    sendRange(request, response, content)
    return
  }
  const digest = sha256(content)
  response
    .writeHead(302, {
      location: `${storeUrl}/${digest}?signature=secret`,
      'x-linked-etag': `"${digest}"`,
      'x-linked-size': content.length,
    })
    .end()
}

function sendTree(
  fake: FakeHub,
  url: URL,
  model: FakeModel,
  files: Record<string, Buffer>,
  response: ServerResponse,
): void {
  const entries = Object.entries(files).map(([path, content]) => {
    const file = { type: 'file', path, size: content.length, oid: gitSha1(content) }
    if (content.length < (model.lfsFrom ?? 1000)) return file
    return {
      ...file,
      oid: gitSha1(Buffer.from(path)),
      lfs: { oid: sha256(content), size: content.length, pointerSize: 130 },
    }
  })
  const from = Number(url.searchParams.get('cursor') ?? 0)
  if (from + PAGE < entries.length) {
    const next = new URL(url.pathname + url.search, fake.url)
    next.searchParams.set('cursor', String(from + PAGE))
    response.setHeader('link', `<${next.href}>; rel="next"`)
  }
  sendJson(response, entries.slice(from, from + PAGE))
}

function filesOf(model: FakeModel, revision: string): Record<string, Buffer> | undefined {
  const revisions: Record<string, Record<string, Buffer>> = { main: model.files, ...model.revisions }
  return revisions[revision] ?? Object.values(revisions).find((files) => commitOf(files) === revision)
}

function fileOf(fake: FakeHub, repo: string, path: string, file: string): Buffer | undefined {
  const revision = /\/resolve\/([^/]+)\//.exec(path)?.[1] ?? ''
  const model = fake.models.get(repo)
  return model && filesOf(model, revision)?.[decodeURIComponent(file)]
}

function sendJson(response: ServerResponse, body: unknown): void {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(body))
}

export function sendRange(
  request: { headers: IncomingMessage['headers'] },
  response: ServerResponse,
  content: Buffer,
): void {
  const [, from] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? []
  if (from === undefined) {
    response.setHeader('content-length', content.length)
    response.end(content)
    return
  }
  const rest = content.subarray(Number(from))
  response.writeHead(206, {
    'content-length': rest.length,
    'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
  })
  response.end(rest)
}

function record(fake: FakeHub, host: HubRequest['host'], request: IncomingMessage): HubRequest {
  const { range, authorization } = request.headers
  const asked = { host, path: request.url ?? '/', range, authorization }
  fake.requests.push(asked)
  return asked
}

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
