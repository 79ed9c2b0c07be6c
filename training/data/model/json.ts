/** Contents of a JSON file that are handed on as they are. */
export type Json = Record<string, unknown>
