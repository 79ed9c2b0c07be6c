/** Apart from the schema, which the chat page does not include. UTF-16 code units of all messages together. */
export const MAX_FEEDBACK_CHARS = 32_768
export const MAX_REASON_CHARS = 2_000
