import { DurableObject } from 'cloudflare:workers'
import { AparError } from '../../shared/errors.ts'
import { type Env, fleetOf } from '../env.ts'
import { connectToNode } from '../gpu-node.ts'
import { logError } from '../middleware/errors.ts'
import { type OpenNode, StreamRelay } from './stream-relay.ts'

/** How many gpu nodes are tried before a request is refused. */
const MAX_ATTEMPTS = 3

/**
 * One stream: takes the client's WebSocket (or the worker's own, for SSE), picks a gpu node and relays until the end.
 * The object's id is the stream's name. It stores nothing: until streams can be resumed, nobody would read it.
 */
export class StreamSession extends DurableObject<Env> {
  override async fetch(): Promise<Response> {
    const { 0: client, 1: server } = new WebSocketPair()
    // Not hibernatable: the outgoing socket keeps this object awake anyway, and accepted sockets close at once.
    server.accept()
    const stream = this.ctx.id.toString()
    new StreamRelay(server, {
      stream,
      openNode: this.#openNode,
      isNodeAlive: (id) => fleetOf(this.env).isAlive(id),
      log: (error) => logError(stream, error),
    })
    return new Response(null, { status: 101, webSocket: client })
  }

  /** A node that cannot be reached has started nothing, so the next best one may try. */
  readonly #openNode: OpenNode = async (model) => {
    const unreachable: string[] = []
    while (unreachable.length < MAX_ATTEMPTS) {
      const choice = await fleetOf(this.env).pick(model, unreachable)
      if ('refused' in choice) throw refusal(choice.refused, model)
      const { id, url } = choice.node
      try {
        return { id, socket: await connectToNode(url, this.env.NODE_SECRET ?? '') }
      } catch (error) {
        logError(this.ctx.id.toString(), error)
        unreachable.push(id)
      }
    }
    throw refusal('no_gpu_node', model)
  }
}

function refusal(code: 'model_not_found' | 'no_gpu_node', model: string): AparError {
  return code === 'model_not_found'
    ? new AparError(code, `there is no model ${JSON.stringify(model)}; see /v1/models`, { param: 'model' })
    : new AparError(code, `no gpu node that serves ${JSON.stringify(model)} can be reached now`)
}
