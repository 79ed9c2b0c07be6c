/** Values of the caller's own, in which null may mean something. */
const FREE_FORM: readonly string[] = [
  ...['chat_template_kwargs', 'schema', 'guided_json', 'json'],
  ...['parameters', 'input_schema'],
]
/** Deeper values are in no field that is read. */
const MAX_DEPTH = 32

/**
 * A request's JSON without the members of objects that are null: in all the APIs, null means absent. Clients write the
 * fields of an answer that were null back into their next request.
 */
export function withoutNulls(value: unknown, depth = 0): unknown {
  if (depth > MAX_DEPTH || typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((item) => withoutNulls(item, depth + 1))
  const isToolUse = 'type' in value && value.type === 'tool_use'
  const members = Object.entries(value).filter(([, member]) => member !== null)
  return Object.fromEntries(
    members.map(([name, member]) => {
      const isSchema = depth === 0 && name === 'json_schema'
      const isFreeForm = FREE_FORM.includes(name) || isSchema || (isToolUse && name === 'input')
      return [name, isFreeForm ? member : withoutNulls(member, depth + 1)]
    }),
  )
}
