import { InvalidArgumentError } from 'commander'
import { NODE_LIMITS, type NodeLimit } from '../../commands/node-limits.ts'
import { UserError } from '../../explain.ts'

/** Limits of a gpu node, by the names of its options. */
export type NodeLimits = Readonly<Record<string, number>>

/** What a run varies, and the values. */
export type Sweep = ReadonlyMap<NodeLimit, readonly number[]>

/** A parser for `blocks=500,1000`, which may be given once for each limit. */
export function sweep(text: string, before: Sweep = new Map()): Sweep {
  const [name = '', list = '', ...more] = text.split('=')
  if (!isLimit(name) || more.length > 0)
    throw new InvalidArgumentError(
      `LIMIT=VALUES is needed; limits are ${Object.keys(NODE_LIMITS).join(', ')}`,
    )
  if (before.has(name)) throw new InvalidArgumentError(`${name} is swept twice`)
  const { parse } = NODE_LIMITS[name]
  return new Map([...before, [name, [...new Set(list.split(',').map((value) => parse(value.trim())))]]])
}

function isLimit(name: string): name is NodeLimit {
  return Object.hasOwn(NODE_LIMITS, name)
}

/** Every combination of values; the limit that was named first changes least often. One empty one without a sweep. */
export function pointsOf(sweep: Sweep): NodeLimits[] {
  return [...sweep].reduce<NodeLimits[]>(
    (points, [name, values]) =>
      points.flatMap((point) => values.map((value) => ({ ...point, [name]: value }))),
    [{}],
  )
}

/** Arguments of `apar gpu-node`. */
export function argumentsOf(limits: NodeLimits): string[] {
  return Object.entries(limits).flatMap(([name, value]) => [`--${name}`, String(value)])
}

/** @throws UserError `invalid_option` where the arguments of the node give a limit that is swept. */
export function checkSwept(sweep: Sweep, nodeArguments: readonly string[]): void {
  for (const name of sweep.keys())
    if (nodeArguments.some((argument) => argument === `--${name}` || argument.startsWith(`--${name}=`)))
      throw new UserError('invalid_option', `--${name}: the node has it from --sweep`)
}

/** For people: `sweep of blocks 500, 1000`. */
export function sweepText(sweep: Sweep): string {
  return [...sweep].map(([name, values]) => `sweep of ${name} ${values.join(', ')}`).join('; ')
}
