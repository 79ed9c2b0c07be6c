import { base64Url, type CredentialMac } from './credential-mac.ts'
import type { CallerCredential } from './credentials.ts'

/** `<base64url of the principal's id>.<48 hex digits><MAC>`. */
const TICKET_PATTERN = /^([A-Za-z0-9_-]{1,1024})\.([0-9a-f]{48})([A-Za-z0-9_-]{22})$/

/** A ticket as the client gets it. It names the KeyLimits object that issued it. */
export async function formatTicket(mac: CredentialMac, principalId: string, ticket: string): Promise<string> {
  const name = base64Url(new TextEncoder().encode(principalId))
  return `${name}.${ticket}${await mac.make('ticket', principalId, ticket)}`
}

/** undefined when the text is no ticket that this edge has made. */
export async function parseTicket(mac: CredentialMac, text: string): Promise<CallerCredential | undefined> {
  const [, name, ticket, given] = text.match(TICKET_PATTERN) ?? []
  if (name === undefined || ticket === undefined || given === undefined) return undefined
  const principalId = decode(name)
  if (principalId === undefined || !(await mac.check('ticket', principalId, ticket, given))) return undefined
  return { principalId, credential: { ticket } }
}

function decode(name: string): string | undefined {
  try {
    const bytes = atob(name.replaceAll('-', '+').replaceAll('_', '/'))
    return new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0)))
  } catch {
    return undefined
  }
}
