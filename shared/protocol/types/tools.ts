/** A call of a tool, as a conversation has it. */
export interface ToolCall {
  /** Names the call, so that its result can. */
  id: string
  name: string
  /** JSON, or whatever another server's model has written. */
  arguments: string
}

/** A function of the client's that the model may call. */
export interface Tool {
  /** Letters, digits and `_ . : -`, at most 128. */
  name: string
  description?: string | undefined
  /** JSON Schema of an object. */
  parameters?: Record<string, unknown> | undefined
  /** A schema that cannot be served as it is refuses the request; otherwise what cannot be served of it is left out. */
  strict?: boolean | undefined
}

/** `auto`: the model may call tools; `required`: it must; a name: it calls this one. */
export type ToolChoice = 'auto' | 'required' | { name: string }
