import type { LanguageModelV3StreamPart } from '@ai-sdk/provider'
import { OrderedText } from '../client/index.ts'
import { readChunk } from './chunk.ts'
import { streamError } from './errors.ts'
import { branchMetadata } from './metadata.ts'

type Part = LanguageModelV3StreamPart

/** The one block of text that an answer has. */
const TEXT = 'txt-0'

/**
 * Text that comes as it is generated, branch by branch, in document order: each piece as soon as no other text can come
 * before it. `finish` has the branches. A stream that does not name its branches stays as it is.
 * @param keepRaw whether the reader has asked for raw chunks.
 */
export function documentOrder(keepRaw: boolean): TransformStream<Part, Part> {
  let order: OrderedText | undefined
  let begun = false
  return new TransformStream<Part, Part>({
    transform(part, controller) {
      const say = (delta: string) => {
        if (delta === '') return
        if (!begun) controller.enqueue({ type: 'text-start', id: TEXT })
        begun = true
        controller.enqueue({ type: 'text-delta', id: TEXT, delta })
      }
      switch (part.type) {
        case 'raw': {
          if (keepRaw) controller.enqueue(part)
          const event = readChunk(part.rawValue)?.event
          if (event?.type === 'accepted') order = new OrderedText(event.joints)
          else if (event && order) say(order.push(event))
          return
        }
        case 'text-start':
        case 'text-delta':
          // The raw chunk has said it.
          if (!order) controller.enqueue(part)
          return
        case 'text-end':
          if (!order || begun) controller.enqueue(part)
          return
        case 'error':
          return controller.enqueue({ type: 'error', error: streamError(part.error) })
        case 'finish': {
          const apar = {
            ...part.providerMetadata?.apar,
            ...(order && { branches: branchMetadata(order.tree) }),
          }
          return controller.enqueue({ ...part, providerMetadata: { ...part.providerMetadata, apar } })
        }
        default:
          return controller.enqueue(part)
      }
    },
  })
}
