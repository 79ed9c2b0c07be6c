import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { packageRoot } from '../../gpu-node/package-root.ts'

export interface Served {
  readonly url: string
  readonly key: string
  readonly process: ChildProcess
}

/** `apar serve` in a process of its own, when it has said that it serves. Ended, and its state removed, after `use`. */
export async function withServe<T>(
  args: readonly string[],
  use: (served: Served) => Promise<T>,
  script = `${packageRoot}/dist/apar.js`,
): Promise<T> {
  const state = mkdtempSync(join(tmpdir(), 'apar-load-'))
  const command = [script, 'serve', '--port', '0', '--state', state, ...args]
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = once(child, 'exit')
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text) => {
    log = (log + text).slice(-2000)
  })
  try {
    const ready = new Promise<Served>((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const [, url, key] = /(http:\/\/\S+?)\/#key=(\S+)/.exec(line) ?? []
        if (url && key) resolve({ url, key, process: child })
      })
    })
    const ended = exited.then(() => {
      throw new Error(`apar serve ended: ${log}`)
    })
    ended.catch(() => {})
    return await use(await Promise.race([ready, ended]))
  } finally {
    child.kill('SIGTERM')
    await exited
    rmSync(state, { recursive: true, force: true })
  }
}

/** Milliseconds from the start of the process to the first text of an answer. */
export async function serveFirstToken(model: string): Promise<number> {
  const begun = performance.now()
  return await withServe(['--model', model], async ({ url, key }) => {
    const { data } = JSON.parse(await textOf(await send(`${url}/v1/models`, key))) as {
      data: { id: string }[]
    }
    const response = await send(`${url}/v1/chat/completions`, key, {
      model: data[0]?.id,
      messages: [{ role: 'user', content: 'Give three tips for staying healthy.' }],
      max_tokens: 16,
      stream: true,
    })
    const text = await textOf(response, /"content":"[^"]/)
    if (!text.includes('"content":"')) throw new Error(`no token came: ${text.slice(-300)}`)
    return performance.now() - begun
  })
}

/** Not `fetch`, which compiles its parser at the first use: that is not the server's time. */
async function send(url: string, key: string, body?: object): Promise<IncomingMessage> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const sent = request(url, { method: body ? 'POST' : 'GET', headers })
  sent.end(body && JSON.stringify(body))
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  return response
}

/** All of the body, or as much as has what is looked for. */
async function textOf(response: IncomingMessage, until?: RegExp): Promise<string> {
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk
    if (until?.test(text)) break
  }
  return text
}
