import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../free-port.ts'

const SERVER = 'bench/peer/portkey/node_modules/@portkey-ai/gateway/build/start-server.js'
export const HOW_TO_INSTALL = 'node bench/peer/portkey/setup.mjs'

const START_ATTEMPTS = 100
const START_PAUSE_MS = 100

export interface Gateway {
  /** Base URL for OpenAI clients. */
  readonly url: string
  /** Headers that select the upstream. */
  readonly headers: Record<string, string>
  close(): Promise<void>
}

export function gatewayIsInstalled(): boolean {
  return existsSync(SERVER)
}

/** Starts Portkey's gateway as its own command does, in front of an OpenAI-compatible server. */
export async function startGateway(upstreamUrl: string): Promise<Gateway> {
  const port = await freePort()
  const child = spawn(process.execPath, [SERVER, `--port=${port}`, '--headless'], {
    env: { ...process.env, NODE_ENV: 'production' },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const exited = once(child, 'exit')
  const root = `http://127.0.0.1:${port}`
  const close = async () => {
    child.kill()
    await exited
  }
  for (let attempt = 0; attempt < START_ATTEMPTS; attempt++) {
    const answer = await fetch(root).catch(() => undefined)
    if (answer) {
      await answer.arrayBuffer()
      const headers = { 'x-portkey-provider': 'openai', 'x-portkey-custom-host': upstreamUrl }
      return { url: `${root}/v1`, headers, close }
    }
    if (child.exitCode !== null) break
    await sleep(START_PAUSE_MS)
  }
  await close()
  throw new Error("Portkey's gateway did not start")
}
