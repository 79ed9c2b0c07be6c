import { expect, test } from 'vitest'
import { killCases, killUnderLoad } from './kill-under-load.ts'

/**
 * A fleet of nodes that reports scripted loads. `atKill`: answers on the busiest node at each kill, which may
 * differ from its last load.
 */
function fleetOf(loads: number[][], atKill: number[]) {
  const calls: string[] = []
  return {
    calls,
    load: async () => (loads.shift() ?? [0, 0, 0]).map((running) => ({ running, waiting: 9 })),
    killBusiest: async () => {
      calls.push('kill')
      return { pid: 1, running: atKill.shift() ?? 0 }
    },
    addNode: async () => void calls.push('add'),
  }
}

test('kills only under load, and counts the answers that run at the moment of the kill', async () => {
  const fleet = fleetOf(
    [
      [0, 0, 0],
      [5, 1, 0],
      [0, 0, 2],
    ],
    [3, 1],
  )
  const reported: number[] = []
  const kills = await killUnderLoad(fleet, 2, ({ running }) => reported.push(running))
  expect(kills).toEqual([
    { killed: 1, running: 3 },
    { killed: 2, running: 1 },
  ])
  expect(reported).toEqual([3, 1])
  expect(fleet.calls).toEqual(['kill', 'add', 'kill', 'add'])
})

test('fails when no answers run any more', async () => {
  const fleet = fleetOf([[1, 0, 0]], [1])
  await expect(killUnderLoad(fleet, 2, () => {}, 0)).rejects.toThrow('nothing runs after 1 kills')
})

test('a kill that hits no answer does not count', async () => {
  const fleet = fleetOf([[1], [1], [1], [1]], [2, 0, 0, 1])
  const kills = await killUnderLoad(fleet, 2)
  expect(kills.map(({ running }) => running)).toEqual([2, 0, 0, 1])
  expect(killCases('2 killed', kills)).toMatchObject([{ value: 3 }, { value: 2 }])
})

test('fails when too many kills hit nothing', async () => {
  const fleet = fleetOf([[1], [1], [1], [1], [1]], [0, 0, 0, 0, 0])
  await expect(killUnderLoad(fleet, 2)).rejects.toThrow('3 kills hit nothing')
})
