/** How much a model should think, in the words of any of the APIs. */
export interface Thinking {
  /** Default: as its chat template has it. */
  readonly enabled?: boolean | undefined
  readonly effort?: string | undefined
  readonly budgetTokens?: number | undefined
}

/**
 * Variables by which chat templates switch thinking, in the spellings of the models: a template takes those that it knows.
 * `own`: those of the request, which come first.
 */
export function thinkingVariables(
  { enabled, effort, budgetTokens }: Thinking,
  own: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  return {
    // Qwen 3, SmolLM3, GLM; DeepSeek V3.1, Granite.
    ...(enabled !== undefined && { enable_thinking: enabled, thinking: enabled }),
    ...(effort !== undefined && { reasoning_effort: effort }),
    // Seed-OSS.
    ...(budgetTokens !== undefined && { thinking_budget: budgetTokens }),
    ...own,
  }
}

/** Of OpenAI's APIs: `none` switches thinking off, each other effort switches it on. */
export function thinkingOfEffort(effort: string | undefined): Thinking {
  if (effort === undefined) return {}
  return effort === 'none' ? { enabled: false } : { enabled: true, effort }
}
