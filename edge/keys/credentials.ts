import type { Principal } from './principal.ts'

/** What a caller authenticates with. A `principal` was verified before: by the worker, or by an earlier request. */
export type Credential =
  | { readonly keyId: string; readonly secret: string }
  | { readonly ticket: string }
  | { readonly principal: Principal }

/** A credential, and the principal that it claims to be: the name of the KeyLimits object that can check it. */
export interface CallerCredential {
  readonly principalId: string
  readonly credential: Credential
}

const encoder = new TextEncoder()

/** The token of `Authorization: Bearer <token>`. */
export function bearerToken(authorization: string | undefined): string | undefined {
  return authorization?.trim().match(/^Bearer[ \t]+(\S+)$/i)?.[1]
}

export function sha256(text: string): Promise<ArrayBuffer> {
  return crypto.subtle.digest('SHA-256', encoder.encode(text))
}

/** Compares in constant time, whatever the texts and their lengths. */
export async function equalSecrets(a: string, b: string): Promise<boolean> {
  const [hashA, hashB] = await Promise.all([sha256(a), sha256(b)])
  return crypto.subtle.timingSafeEqual(hashA, hashB)
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

export function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}
