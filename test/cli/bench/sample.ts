import type { Sample } from '../../../cli/bench/serving/load/sample.ts'

export function sampleOf(fields: Partial<Sample>): Sample {
  return {
    ...{ id: '1', due_ms: 0, sent_ms: 0, ttft_ms: 100, e2e_ms: 500, gaps_ms: [200, 200] },
    ...{ prompt_tokens: 10, cached_tokens: 0, output_tokens: 3, counted: true, finish: 'stop' },
    ...{ error: null, message: null, prompt: 'Hello', text: 'Hi there.' },
    ...fields,
  }
}
