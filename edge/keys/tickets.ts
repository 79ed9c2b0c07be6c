import type { Credential } from './credentials.ts'

/** `<base64url of the name of the KeyLimits object that gave it out>.<48 hex digits>`. */
const TICKET_PATTERN = /^([A-Za-z0-9_-]{1,1024})\.([0-9a-f]{48})$/

/** A ticket as its holder gets it: it says which KeyLimits object knows it. */
export function formatTicket(principalId: string, ticket: string): string {
  const bytes = new TextEncoder().encode(principalId)
  const name = btoa(String.fromCharCode(...bytes))
  return `${name.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}.${ticket}`
}

/** undefined when it cannot be a ticket. */
export function parseTicket(text = ''): { name: string; credential: Credential } | undefined {
  const [, name, ticket] = text.match(TICKET_PATTERN) ?? []
  if (name === undefined || ticket === undefined) return undefined
  try {
    const bytes = atob(name.replaceAll('-', '+').replaceAll('_', '/'))
    const decoded = new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0)))
    return { name: decoded, credential: { ticket } }
  } catch {
    return undefined
  }
}
