import { expect, test } from 'vitest'
import { killCases, killUnderLoad } from './kill-under-load.ts'

/** Three nodes as their load is told; a kill takes what runs on the busiest at that moment, which may have changed. */
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

test('kills while something runs, and counts what ran at the kill, not before', async () => {
  const fleet = fleetOf(
    [
      [0, 0, 0],
      [5, 1, 0],
      [0, 0, 2],
    ],
    [3, 1],
  )
  const told: number[] = []
  const kills = await killUnderLoad(fleet, 2, ({ running }) => told.push(running))
  expect(kills).toEqual([
    { killed: 1, running: 3 },
    { killed: 2, running: 1 },
  ])
  expect(told).toEqual([3, 1])
  expect(fleet.calls).toEqual(['kill', 'add', 'kill', 'add'])
})

test('breaks off when there is nobody left to harm', async () => {
  const fleet = fleetOf([[1, 0, 0]], [1])
  await expect(killUnderLoad(fleet, 2, () => {}, 0)).rejects.toThrow('nothing runs after 1 kills')
})

test('a kill that hit nothing does not count', async () => {
  const fleet = fleetOf([[1], [1], [1], [1]], [2, 0, 0, 1])
  const kills = await killUnderLoad(fleet, 2)
  expect(kills.map(({ running }) => running)).toEqual([2, 0, 0, 1])
  expect(killCases('2 killed', kills)).toMatchObject([{ value: 3 }, { value: 2 }])
})

test('breaks off when kills hit nothing', async () => {
  const fleet = fleetOf([[1], [1], [1], [1], [1]], [0, 0, 0, 0, 0])
  await expect(killUnderLoad(fleet, 2)).rejects.toThrow('3 kills hit nothing')
})
