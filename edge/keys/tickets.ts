import type { CallerCredential } from './credentials.ts'

/** `<base64url of the principal's id>.<48 hex digits>`. */
const TICKET_PATTERN = /^([A-Za-z0-9_-]{1,1024})\.([0-9a-f]{48})$/

/** A ticket as the client gets it. It names the KeyLimits object that issued it. */
export function formatTicket(principalId: string, ticket: string): string {
  const bytes = new TextEncoder().encode(principalId)
  const name = btoa(String.fromCharCode(...bytes))
  return `${name.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}.${ticket}`
}

/** undefined when the text has not the form of a ticket. */
export function parseTicket(text = ''): CallerCredential | undefined {
  const [, name, ticket] = text.match(TICKET_PATTERN) ?? []
  if (name === undefined || ticket === undefined) return undefined
  try {
    const bytes = atob(name.replaceAll('-', '+').replaceAll('_', '/'))
    const decoded = new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0)))
    return { principalId: decoded, credential: { ticket } }
  } catch {
    return undefined
  }
}
