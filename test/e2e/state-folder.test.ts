import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import WebSocket from 'ws'
import { SUBPROTOCOL } from '../../shared/protocol/version.ts'
import { freeKey, startScriptedEdge } from './scripted-edge.ts'

it('streams, sockets and heartbeats leave no files', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'apar-state-'))
  const { key, record } = freeKey()
  const edge = await startScriptedEdge(folder, [record])
  const files = () => readdirSync(folder, { recursive: true }).map(String).sort()
  const use = async (times: number) => {
    for (let time = 0; time < times; time++) {
      expect(await edge.chat(key, { stream: true, apar: { resumable: true } })).toBe('200')
      for (const protocol of [SUBPROTOCOL, 'apar.mux.v1']) {
        const headers = { authorization: `Bearer ${key}` }
        const socket = new WebSocket(`${edge.url.replace('http', 'ws')}/v1/stream`, [protocol], { headers })
        await once(socket, 'open')
        socket.close()
        await once(socket, 'close')
      }
    }
  }
  try {
    // All the shards of the streams' records have been used then, with near certainty.
    await use(60)
    const names = files()
    expect(names.filter((name) => /StreamSession|SharedSocket|DialledInNode/.test(name))).toEqual([])
    await use(30)
    // Files of SQLite next to a database come and go with it.
    const databases = (all: string[]) => all.filter((name) => name.endsWith('.sqlite'))
    expect(databases(files())).toEqual(databases(names))
  } finally {
    await edge.close()
    rmSync(folder, { recursive: true, force: true })
  }
})
