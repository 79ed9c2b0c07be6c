// Wraps the edge's unchanged worker (worker.js is dist/edge/worker.js) and adds a path that evicts one stream's
// session: ctx.abort() discards its memory and its sockets and keeps its storage, as an eviction or a runtime
// update does.
import app, { StreamSession as Session } from './worker.js'

// Exports the other Durable Objects. The StreamSession below takes precedence over the re-export.
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
    // Expected to fail: the call aborts the object that it runs in.
    await env.STREAM_SESSION.get(env.STREAM_SESSION.idFromString(stream))
      .evict()
      .catch(() => {})
    return new Response('evicted')
  },
}
