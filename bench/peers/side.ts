import { z } from 'zod'

export const SIDES = ['ours', 'vLLM', 'OpenVINO'] as const
export type SideName = (typeof SIDES)[number]

/** Types of weights in which all sides can compute. */
export const PEER_DTYPES = ['bf16', 'int8'] as const
export type PeerDType = (typeof PEER_DTYPES)[number]

/** A chat message, and how many tokens the answer is to have. */
export interface Asked {
  readonly prompt: string
  readonly tokens: number
}

const Answered = z.strictObject({
  /** With those of the chat template. */
  prompt_tokens: z.int().min(1),
  output_tokens: z.int().min(0),
  /** From sending the request to its first text. */
  ttft_ms: z.number().min(0),
  text: z.string(),
})
export type Answered = z.infer<typeof Answered>

/** All answers, in the order of the requests, and the time from the first sending to the last end. */
export const Run = z.strictObject({ seconds: z.number().positive(), answers: z.array(Answered) })
export type Run = z.infer<typeof Run>

/** One of the compared programs, with its model loaded. */
export interface Side {
  readonly name: SideName
  /** Asks greedily, so many requests at a time; the next is sent when one has ended. @throws Error when one fails. */
  run(requests: readonly Asked[], streams: number): Promise<Run>
  close(): Promise<void>
}

/**
 * That the sides did the same work: as many tokens as were asked for, after the same prompts.
 * @throws Error that names the first difference.
 */
export function checkSameWork(requests: readonly Asked[], runs: ReadonlyMap<SideName, Run>): void {
  const [[firstName = '', first] = []] = runs
  for (const [name, { answers }] of runs) {
    for (const [index, { tokens }] of requests.entries()) {
      const answer = answers[index]
      const expected = first?.answers[index]
      if (answer?.output_tokens !== tokens)
        throw new Error(`${name}: answer ${index} has ${answer?.output_tokens} tokens instead of ${tokens}`)
      if (answer.prompt_tokens !== expected?.prompt_tokens)
        throw new Error(
          `prompt ${index} has ${answer.prompt_tokens} tokens for ${name}, ${expected?.prompt_tokens} for ${firstName}`,
        )
    }
  }
}
