import { createHash } from 'node:crypto'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { StreamEvent, ToolArgumentsEvent, ToolCallEvent } from '../../shared/protocol/types/events.ts'
import { toolParameters } from '../tools/parameters.ts'
import type { ModelTools } from '../tools/tool-format.ts'
import { type AnswerPart, ToolParser } from '../tools/tool-parser.ts'

type Unnumbered<E extends StreamEvent> = Omit<E, 'seq'>

/** The text of an answer that may call tools, as content and events of calls. */
export class ToolAnswer {
  readonly #stream: string
  readonly #parser: ToolParser

  constructor(
    stream: string,
    { tools = [], tool_choice, output_format }: GenerateRequest,
    model: ModelTools,
  ) {
    this.#stream = stream
    this.#parser = new ToolParser({
      format: model.format,
      names: tools.map(({ name }) => name),
      parameters: toolParameters({ tools }, model.format),
      required: tool_choice !== undefined && tool_choice !== 'auto',
      instead: output_format && (output_format.type === 'json_schema' ? 'json' : 'text'),
    })
  }

  /** `over`: no more text follows. */
  take(text: string, over: boolean): (string | Unnumbered<ToolCallEvent> | Unnumbered<ToolArgumentsEvent>)[] {
    const parts = this.#parser.push(text)
    return (over ? [...parts, ...this.#parser.flush()] : parts).map((part) => this.#event(part))
  }

  #event(part: AnswerPart) {
    if ('content' in part) return part.content
    const { call } = part
    if ('text' in part) return { type: 'tool_arguments' as const, call, text: part.text }
    return { type: 'tool_call' as const, call, call_id: this.#idOf(call), name: part.name }
  }

  /** The same on each gpu node that continues the stream. */
  #idOf(call: number): string {
    return createHash('sha256').update(`${this.#stream} ${call}`).digest('hex').slice(0, 24)
  }
}
