import { env, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { expect, it, vi } from 'vitest'
import { recordsOf } from '../../edge/streams/stream-records.ts'
import { accepted, age, branchEnd, Client, done, evict, register, request } from './support.ts'

/** Names of the tables of the object that has this stream's record. */
function tablesFor(stream: string): Promise<unknown[]> {
  return runInDurableObject(recordsOf(env, stream), (_, { storage }) =>
    storage.sql.exec("SELECT name FROM sqlite_master WHERE type = 'table'").toArray(),
  )
}

async function streamOf(client: Client): Promise<string> {
  const event = await client.next()
  if (event?.type !== 'accepted') throw new Error(`the first event is ${event?.type}`)
  return event.stream
}

it('a stream that has ended leaves nothing behind', async () => {
  await register('a')
  const client = await Client.generate([accepted, { await: 'frame' }, done()])
  const stream = await streamOf(client)
  const records = recordsOf(env, stream)
  await vi.waitFor(async () => expect(await records.get(stream)).toMatchObject({ node: { id: 'a' } }))
  client.send({ type: 'cancel' })
  await client.rest()
  await vi.waitFor(async () => expect(await records.get(stream)).toBeUndefined())
  expect(await runDurableObjectAlarm(records)).toBe(true)
  expect(await tablesFor(stream)).toEqual([])
  expect(await runDurableObjectAlarm(records)).toBe(false)
})

it('a record is deleted only after it was written, however long that takes', async () => {
  await register('a')
  const id = env.STREAM_SESSION.newUniqueId()
  const calls: string[] = []
  let write = () => {}
  const written = new Promise<void>((resolve) => {
    write = resolve
  })
  const records = {
    put: async () => {
      calls.push('put')
      await written
      calls.push('written')
    },
    delete: async () => void calls.push('deleted'),
  }
  const session = env.STREAM_SESSION.get(id)
  await runInDurableObject(session, (instance) => {
    Object.assign(instance, { env: { ...env, STREAM_RECORDS: { getByName: () => records } } })
  })
  const { webSocket } = await session.fetch('https://session/', { headers: { upgrade: 'websocket' } })
  const closed = new Promise((resolve) => webSocket?.addEventListener('close', resolve))
  webSocket?.accept()
  webSocket?.send(JSON.stringify({ type: 'generate', ...request([accepted, branchEnd(0), done()]) }))
  await closed
  webSocket?.close(1000)
  await vi.waitFor(() => expect(calls).toContain('put'))
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(calls).toEqual(['put'])
  write()
  await vi.waitFor(() => expect(calls).toEqual(['put', 'written', 'deleted']))
})

it('a stream whose session is gone and whose client never comes back leaves nothing behind', async () => {
  await register('a')
  const stream = await streamOf(await Client.generate([accepted, { hang: true }]))
  await evict(stream)
  const records = recordsOf(env, stream)
  expect(await runDurableObjectAlarm(records)).toBe(true)
  expect(await records.get(stream)).toBeDefined()
  await age(stream, 190_000)
  expect(await runDurableObjectAlarm(records)).toBe(true)
  expect(await tablesFor(stream)).toEqual([])
})

it('a record of an earlier version is found, and moves', async () => {
  await register('a')
  const client = await Client.generate([accepted, { hang: true }])
  const stream = await streamOf(client)
  await evict(stream)
  const session = env.STREAM_SESSION.get(env.STREAM_SESSION.idFromString(stream))
  const record = await recordsOf(env, stream).get(stream)
  await recordsOf(env, stream).delete(stream)
  await runInDurableObject(session, async (_, { storage }) => {
    await storage.put('stream', record)
    await storage.setAlarm(Date.now() + 60_000)
  })
  expect(await runDurableObjectAlarm(session)).toBe(true)
  expect(await recordsOf(env, stream).get(stream)).toEqual(record)
  expect(await runInDurableObject(session, (_, { storage }) => storage.get('stream'))).toBeUndefined()
})
