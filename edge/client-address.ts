import type { Context } from 'hono'
import type { AppEnv } from './app-env.ts'

const LONGEST = 64

/**
 * The client's IP address from the header that `CLIENT_ADDRESS_HEADER` names; undefined when there is none, or when
 * nothing in front of the edge sets that header, so that clients could write it themselves. Of an IPv6 address only the
 * network (/64), since one client has all the addresses in it; an IPv4 address as IPv6 is the IPv4 address.
 */
export function clientAddress(c: Context<AppEnv>): string | undefined {
  const name = c.env.CLIENT_ADDRESS_HEADER ?? 'cf-connecting-ip'
  const address = name === '' ? undefined : c.req.header(name)?.trim().slice(0, LONGEST)
  if (!address) return undefined
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '')
  return plain.includes(':') ? networkOf(plain) : plain
}

function networkOf(address: string): string {
  const [head = '', tail] = address.split('::')
  const groups = head === '' ? [] : head.split(':')
  const behind = tail ? tail.split(':').length : 0
  // `::` stands for as many zeros as are missing.
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - behind)
  const all = [...groups, ...Array<string>(zeros).fill('0'), ...(tail ? tail.split(':') : [])]
  return all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, '').toLowerCase())
    .join(':')
}
