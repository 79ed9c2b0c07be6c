import { expect, test } from 'vitest'
import { LineProcess } from '../../bench/peer/line-process.ts'

const PROGRAM = `
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const [name, ...words] = line.split(' ')
  if (name === 'count') console.log(JSON.stringify({ tokens: words.length, seconds: 0.5 }))
  if (name === 'refuse') console.log('{"error":"not today"}')
  if (name === 'die') process.exit(3)
})`
const start = () => new LineProcess(process.execPath, ['-e', PROGRAM])

test('answers commands in order, and close waits for the exit', async () => {
  const program = start()
  expect(await program.ask('count', 1, 2)).toEqual({ tokens: 2, seconds: 0.5 })
  expect(await program.ask('count')).toEqual({ tokens: 0, seconds: 0.5 })
  await program.close()
  await expect(program.ask('count')).rejects.toThrow('ended with 0')
})

test('reports an error of the program, which keeps running', async () => {
  const program = start()
  await expect(program.ask('refuse')).rejects.toThrow('refuse: not today')
  expect(await program.ask('count', 1)).toMatchObject({ tokens: 1 })
  await program.close()
})

test('rejects a pending command when the program exits', async () => {
  await expect(start().ask('die')).rejects.toThrow('ended with 3')
  await expect(new LineProcess('/no/such/program', []).ask('count')).rejects.toThrow('ENOENT')
})
