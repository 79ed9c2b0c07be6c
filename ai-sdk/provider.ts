import { type LanguageModelV3, NoSuchModelError, type ProviderV3 } from '@ai-sdk/provider'
import {
  type FetchFunction,
  loadApiKey,
  loadOptionalSetting,
  withoutTrailingSlash,
} from '@ai-sdk/provider-utils'
import { requestBody } from './body.ts'
import { AparLanguageModel } from './model.ts'

const LOCAL = 'http://127.0.0.1:8787/v1'

export interface AparProviderSettings {
  /** The edge's API, with its path. Default: APAR_BASE_URL, or `http://127.0.0.1:8787/v1`, where `apar serve` answers. */
  baseURL?: string
  /** Default: APAR_API_KEY. */
  apiKey?: string
  /** Sent with every request, beside the key. */
  headers?: Record<string, string>
  /** Replaces the platform's `fetch`. */
  fetch?: FetchFunction
}

export interface AparProvider extends ProviderV3 {
  /** A model by the name under which it is served. */
  (modelId: string): LanguageModelV3
  languageModel(modelId: string): LanguageModelV3
  chatModel(modelId: string): LanguageModelV3
}

/** Settings are read from the environment with each call. */
export function createApar(settings: AparProviderSettings = {}): AparProvider {
  const baseUrl = () =>
    withoutTrailingSlash(
      loadOptionalSetting({ settingValue: settings.baseURL, environmentVariableName: 'APAR_BASE_URL' }),
    ) ?? LOCAL
  const headers = () => {
    const apiKey = loadApiKey({
      apiKey: settings.apiKey,
      environmentVariableName: 'APAR_API_KEY',
      description: 'apar',
    })
    return { authorization: `Bearer ${apiKey}`, ...settings.headers }
  }
  const languageModel = (modelId: string) =>
    new AparLanguageModel(modelId, {
      provider: 'apar.chat',
      url: ({ path }) => `${baseUrl()}${path}`,
      headers,
      includeUsage: true,
      supportsStructuredOutputs: true,
      transformRequestBody: requestBody,
      ...(settings.fetch && { fetch: settings.fetch }),
    })
  const none = (modelType: 'embeddingModel' | 'imageModel') => (modelId: string) => {
    throw new NoSuchModelError({ modelId, modelType })
  }
  return Object.assign((modelId: string) => languageModel(modelId), {
    specificationVersion: 'v3' as const,
    languageModel,
    chatModel: languageModel,
    embeddingModel: none('embeddingModel'),
    imageModel: none('imageModel'),
  })
}

/** The provider with the settings of the environment. */
export const apar: AparProvider = /* @__PURE__ */ createApar()
