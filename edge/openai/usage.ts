import type { CompletionUsage } from '../../shared/openai.ts'
import type { AcceptedEvent, Usage } from '../../shared/protocol/events.ts'
import { aparUsage } from '../streams/http/apar-usage.ts'
import type { Choice } from '../streams/http/choice.ts'

/** The usage of a call. Each group of `perPrompt` consecutive choices answers the same prompt, which counts once. */
export function openAiUsage(usages: readonly Usage[], perPrompt: number): CompletionUsage {
  const prompts = usages.filter((_, index) => index % perPrompt === 0)
  const total = (list: readonly Usage[], field: 'prompt_tokens' | 'completion_tokens') =>
    list.reduce((sum, usage) => sum + usage[field], 0)
  const prompt_tokens = total(prompts, 'prompt_tokens')
  const completion_tokens = total(usages, 'completion_tokens')
  // Choices find in the cache what another one of them has computed for the same prompt.
  const cached_tokens = prompts.reduce((sum, _, index) => {
    const choices = usages.slice(index * perPrompt, (index + 1) * perPrompt)
    return sum + Math.min(...choices.map((usage) => usage.cached_prompt_tokens))
  }, 0)
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    prompt_tokens_details: { cached_tokens },
    ...reasoningDetails(usages),
    ...aparUsage(usages),
  }
}

function reasoningDetails(usages: readonly Usage[]): Pick<CompletionUsage, 'completion_tokens_details'> {
  if (usages.every(({ reasoning_tokens }) => reasoning_tokens === undefined)) return {}
  const reasoning_tokens = usages.reduce((sum, usage) => sum + (usage.reasoning_tokens ?? 0), 0)
  return { completion_tokens_details: { reasoning_tokens } }
}

/** The usage of a call whose choices still grow. What was found in the prefix cache is known at the end only. */
export function runningUsage(
  accepted: readonly AcceptedEvent[],
  choices: readonly Choice[],
  perPrompt: number,
): CompletionUsage {
  const prompts = accepted.filter((_, index) => index % perPrompt === 0)
  const prompt_tokens = prompts.reduce((sum, { prompt_tokens: tokens = 0 }) => sum + tokens, 0)
  const completion_tokens = choices.reduce((sum, { tokens }) => sum + tokens, 0)
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    prompt_tokens_details: { cached_tokens: 0 },
  }
}
