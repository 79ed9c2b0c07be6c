import { OpenAICompatibleChatLanguageModel } from '@ai-sdk/openai-compatible'
import type {
  LanguageModelV3CallOptions,
  LanguageModelV3GenerateResult,
  LanguageModelV3StreamResult,
} from '@ai-sdk/provider'
import { withOwnFields } from './body.ts'
import { documentOrder } from './document-order.ts'

/**
 * apar's chat completions. Messages, tools, formats, usage and errors are those of OpenAI's API; a stream has the branch
 * of each piece of text in addition, from which the text in document order is made here.
 */
export class AparLanguageModel extends OpenAICompatibleChatLanguageModel {
  override doGenerate(options: LanguageModelV3CallOptions): Promise<LanguageModelV3GenerateResult> {
    return super.doGenerate(withOwnFields(options))
  }

  override async doStream(options: LanguageModelV3CallOptions): Promise<LanguageModelV3StreamResult> {
    // The branch is in the raw chunk only, which comes before the parts that are made of it.
    const result = await super.doStream({ ...withOwnFields(options), includeRawChunks: true })
    return { ...result, stream: result.stream.pipeThrough(documentOrder(options.includeRawChunks ?? false)) }
  }
}
