import { Hono } from 'hono'
import type { AppEnv } from './env.ts'
import { apiKeyAuth } from './middleware/api-key-auth.ts'
import { limitBody } from './middleware/body-limit.ts'
import { handleError } from './middleware/errors.ts'
import { nodeAuth } from './middleware/node-auth.ts'
import { allowOnly, notFound } from './middleware/not-found.ts'
import { rateLimit } from './middleware/rate-limit.ts'
import { responseHeaders } from './middleware/response-headers.ts'
import { createChatCompletion } from './routes/chat-completions.ts'
import { health } from './routes/health.ts'
import { listModels } from './routes/models.ts'
import { deregisterNode, registerNode } from './routes/nodes.ts'
import { chatPage, chatScript, chatStyle } from './routes/page.ts'
import { openStream } from './routes/stream.ts'

export const MAX_BODY_BYTES = 2 * 1024 * 1024

export function createApp(): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.onError(handleError)
  app.notFound(notFound)
  app.use(responseHeaders, limitBody(MAX_BODY_BYTES))

  app.get('/', chatPage).all(allowOnly('GET'))
  app.get('/chat.js', chatScript).all(allowOnly('GET'))
  app.get('/chat.css', chatStyle).all(allowOnly('GET'))
  app.get('/healthz', health).all(allowOnly('GET'))

  app.use('/v1/*', apiKeyAuth, rateLimit)
  app.get('/v1/models', listModels).all(allowOnly('GET'))
  app.get('/v1/stream', openStream).all(allowOnly('GET'))
  app.post('/v1/chat/completions', createChatCompletion).all(allowOnly('POST'))

  app.use('/internal/v1/*', nodeAuth)
  app.put('/internal/v1/nodes/:id', registerNode)
  app.delete('/internal/v1/nodes/:id', deregisterNode)
  app.all('/internal/v1/nodes/:id', allowOnly('PUT', 'DELETE'))
  return app
}
