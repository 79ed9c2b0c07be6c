import type { Principal } from './principal.ts'

/** What a caller shows; a principal was proven by a token that the worker has checked, or by an earlier request. */
export type Credential =
  | { readonly keyId: string; readonly secret: string }
  | { readonly ticket: string }
  | { readonly principal: Principal }

/** A credential, and the name of the KeyLimits object that can judge it. */
export interface Presented {
  readonly name: string
  readonly credential: Credential
}

const encoder = new TextEncoder()

/** The token of `Authorization: Bearer <token>`. */
export function bearerToken(authorization: string | undefined): string | undefined {
  return authorization?.match(/^Bearer +(\S+)$/i)?.[1]
}

export function sha256(text: string): Promise<ArrayBuffer> {
  return crypto.subtle.digest('SHA-256', encoder.encode(text))
}

/** Compares in a time that depends on neither text, not even on their lengths. */
export async function equalSecrets(a: string, b: string): Promise<boolean> {
  const [hashA, hashB] = await Promise.all([sha256(a), sha256(b)])
  return crypto.subtle.timingSafeEqual(hashA, hashB)
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
