export type ItemStatus = 'in_progress' | 'completed' | 'incomplete'

/** An event about an item of a response, without its number. */
export type ItemEvent = [type: string, fields: object]
