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
  const ipv6 = address.includes(':') ? canonicalIpv6(address) : undefined
  return ipv6 === undefined ? address : (mappedIpv4(ipv6) ?? networkOf(ipv6))
}

/** In lower case without leading zeros, the longest run of zeros as `::`; undefined for what is no address. */
function canonicalIpv6(address: string): string | undefined {
  return URL.canParse(`http://[${address}]`)
    ? new URL(`http://[${address}]`).hostname.slice(1, -1)
    : undefined
}

function mappedIpv4(ipv6: string): string | undefined {
  const halves = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(ipv6)?.slice(1)
  return halves
    ?.flatMap((half) => [Number.parseInt(half, 16) >> 8, Number.parseInt(half, 16) & 255])
    .join('.')
}

function networkOf(ipv6: string): string {
  const [head = '', tail] = ipv6.split('::')
  const groups = head === '' ? [] : head.split(':')
  const behind = tail ? tail.split(':').length : 0
  // `::` stands for as many zeros as are missing.
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - behind)
  const all = [...groups, ...Array<string>(zeros).fill('0'), ...(tail ? tail.split(':') : [])]
  return all.slice(0, 4).join(':')
}
