// The edge's worker as it is (worker.js is dist/edge/worker.js), with a way to evict one stream's session: ctx.abort() throws its memory
// and its sockets away and leaves its storage, as an eviction or a runtime update does.
import app, { StreamSession as Session } from './worker.js'

// The other objects; what is exported here by name goes before.
export * from './worker.js'

export class StreamSession extends Session {
  evict() {
    this.ctx.abort('evicted by the test')
  }
}

export default {
  async fetch(request, env, context) {
    const [, stream] = /^\/chaos\/evict\/(\w+)$/.exec(new URL(request.url).pathname) ?? []
    if (stream === undefined) return app.fetch(request, env, context)
    // The call fails with the object that it is for.
    await env.STREAM_SESSION.get(env.STREAM_SESSION.idFromString(stream))
      .evict()
      .catch(() => {})
    return new Response('evicted')
  },
}
