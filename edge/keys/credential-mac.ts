import { fromHex } from './credentials.ts'

/** 128 bits, as base64url without padding. */
export const MAC_CHARS = 22
const MAC_BYTES = 16

const encoder = new TextEncoder()

/** What a MAC is made for, so that the MAC of a ticket is not valid for a key. */
type Purpose = 'key' | 'ticket'

/**
 * Makes and checks the MACs at the end of keys and tickets. With them a worker tells credentials that this edge has
 * made from all others, without asking a Durable Object. A MAC says that the credential was made here once; whether it
 * is valid now, only the KeyLimits object of its principal knows.
 */
export class CredentialMac {
  readonly #key: CryptoKey

  private constructor(key: CryptoKey) {
    this.#key = key
  }

  /** `secret`: hex digits. */
  static async of(secret: string): Promise<CredentialMac> {
    const algorithm = { name: 'HMAC', hash: 'SHA-256' }
    return new CredentialMac(
      await crypto.subtle.importKey('raw', fromHex(secret), algorithm, false, ['sign']),
    )
  }

  /** The MAC of a principal's random text, which cannot be used with another principal. */
  async make(purpose: Purpose, principalId: string, random: string): Promise<string> {
    return base64Url(await this.#sign(purpose, principalId, random))
  }

  /** Takes the same time for every `mac` of the same length. */
  async check(purpose: Purpose, principalId: string, random: string, mac: string): Promise<boolean> {
    return equalTexts(mac, await this.make(purpose, principalId, random))
  }

  async #sign(purpose: Purpose, principalId: string, random: string): Promise<Uint8Array> {
    const text = encoder.encode(`${purpose}\n${principalId}\n${random}`)
    return new Uint8Array(await crypto.subtle.sign('HMAC', this.#key, text), 0, MAC_BYTES)
  }
}

/** In constant time for texts of the same length. */
function equalTexts(a: string, b: string): boolean {
  let difference = a.length ^ b.length
  for (let index = 0; index < b.length; index++) difference |= a.charCodeAt(index) ^ b.charCodeAt(index)
  return difference === 0
}

export function base64Url(bytes: Uint8Array): string {
  const text = btoa(String.fromCharCode(...bytes))
  return text.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}
