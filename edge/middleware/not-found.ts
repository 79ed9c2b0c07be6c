import type { Context, NotFoundHandler } from 'hono'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { handleError } from './errors.ts'
import { whyNotServed } from './not-served.ts'

export const notFound: NotFoundHandler<AppEnv> = (c) => {
  throw new AparError('not_found', whyNotServed(c.req.path) ?? `there is nothing at ${c.req.path}`)
}

/** The last handler of a path, reached by calls with another method than `methods`. */
export function allowOnly(...methods: string[]) {
  return async (c: Context<AppEnv>): Promise<Response> => {
    const message = `${c.req.path} answers ${methods.join(' and ')}, not ${c.req.method}`
    const response = await handleError(new AparError('method_not_allowed', message), c)
    response.headers.set('allow', methods.join(', '))
    return response
  }
}
