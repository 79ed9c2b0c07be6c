import { AparError } from '../../../shared/errors.ts'
import type { Apar } from '../../../shared/openai.ts'
import { parse } from '../../../shared/parse.ts'
import { FurtherFields, GenerateRequest } from '../../../shared/protocol/request.ts'
import { type FormatBody, outputFormatOf } from '../../../shared/requests/answer-format.ts'
import { SamplingFields, type TemplateFields } from '../../../shared/requests/sampling.ts'

import { type Thinking, thinkingVariables } from './thinking.ts'

const NO_LIMIT = -1

/**
 * A request from the fields of another API, under apar's names; null means absent. `apar`: options that the other API
 * does not have.
 */
export function toGenerateRequest(fields: object, apar: Apar | null | undefined): GenerateRequest {
  const options = Object.entries(apar ?? {})
  const isFurther = ([name]: readonly [string, unknown]) => name in FurtherFields.shape
  const branching = options.filter((option) => !isFurther(option))
  const request: Record<string, unknown> = {
    ...given(options.filter(isFurther)),
    branching: branching.length > 0 ? Object.fromEntries(branching) : undefined,
    ...given(Object.entries(fields)),
  }
  if (request.max_tokens === NO_LIMIT) delete request.max_tokens
  return parse(GenerateRequest, request)
}

function given(members: readonly (readonly [string, unknown])[]): Record<string, unknown> {
  return Object.fromEntries(members.filter(([, value]) => value !== undefined && value !== null))
}

/** The request, with the stop strings of APIs that give text in document order. */
export function stopsInDocument(request: GenerateRequest): GenerateRequest {
  return request.stop?.length ? { ...request, stop_scope: 'document' } : request
}

type Sampling = Partial<Pick<GenerateRequest, keyof typeof SamplingFields>>

/** The sampling options that an API has at the top level, although its inventor's has not. -1 is a random seed. */
export function samplingOf(body: Sampling): Sampling {
  const { seed, min_tokens, ignore_eos, stop_token_ids } = body
  const given = Object.keys(SamplingFields).map((name) => [name, body[name as keyof Sampling]])
  return {
    ...Object.fromEntries(given),
    seed: seed === -1 ? undefined : seed,
    // Their neutral values need no node that knows them.
    ...{ min_tokens: min_tokens || undefined, ignore_eos: ignore_eos || undefined },
    stop_token_ids: stop_token_ids?.length ? stop_token_ids : undefined,
  }
}

type TemplateOptions = Partial<Pick<GenerateRequest, keyof typeof TemplateFields>>

/**
 * The options about the template, without neutral ones. To continue the last message, there is no beginning of another: a
 * request that asks for both is refused as one of apar's.
 */
export function templateOptionsOf(body: TemplateOptions, thinking: Thinking = {}): TemplateOptions {
  const { add_generation_prompt, continue_final_message } = body
  const chat_template_kwargs = thinkingVariables(thinking, body.chat_template_kwargs)
  const hasVariables = Object.keys(chat_template_kwargs).length > 0
  return {
    // Of the two values, one is the default, and the other one that of a message that is continued.
    add_generation_prompt:
      add_generation_prompt === Boolean(continue_final_message) ? add_generation_prompt : undefined,
    continue_final_message: continue_final_message || undefined,
    chat_template_kwargs: hasVariables ? chat_template_kwargs : undefined,
  }
}

/**
 * What `start` returns. A node's errors about the answer's format name the field of the caller's body.
 * @throws AparError
 */
export async function withFormatOf<T>(body: FormatBody, start: () => Promise<T>): Promise<T> {
  try {
    return await start()
  } catch (error) {
    if (!(error instanceof AparError) || error.param !== 'output_format') throw error
    const { code, retryAfterSeconds, cause } = error
    const param = outputFormatOf(body)?.field
    const message = error.message.replace('output_format: ', `${param}: `)
    throw new AparError(code, message, { param, retryAfterSeconds, cause })
  }
}

const PROMPTS: readonly string[] = ['messages', 'prompt_token_ids']

/**
 * What `start` returns. Errors about the messages of a request name the field that the caller's API has instead;
 * `ofBody` is one about the caller's own `messages`.
 * @throws AparError
 */
export async function withPromptAs<T>(
  field: string,
  start: () => Promise<T>,
  ofBody?: AparError,
): Promise<T> {
  try {
    return await start()
  } catch (error) {
    if (
      !(error instanceof AparError) ||
      error === ofBody ||
      !PROMPTS.includes(error.param?.split('.')[0] ?? '')
    )
      throw error
    const { code, param, retryAfterSeconds, cause } = error
    const message = error.message.replace(`${param}: `, `${field}: `)
    throw new AparError(code, message, { param: field, retryAfterSeconds, cause })
  }
}
