import { expect, test } from 'vitest'
import { HELP, plainText, slashCommand } from '../../../cli/chat/slash-command.ts'

test.each([
  ['/clear', { name: 'clear' }],
  ['/system  Answer in one word. ', { name: 'system', text: 'Answer in one word.' }],
  ['/system', { name: 'system', text: '' }],
  ['/model demo', { name: 'model', text: 'demo' }],
  ['/quit', { name: 'exit' }],
  ['/?', { name: 'help' }],
])('%s', (line, command) => {
  expect(slashCommand(line)).toEqual(command)
})

test('what is no command is never sent to the model', () => {
  expect(slashCommand('/celar')).toEqual({
    name: 'unknown',
    text: 'there is no /celar; /help lists the commands',
  })
  expect(slashCommand('/model')?.name).toBe('unknown')
})

test('text is text, also with a doubled slash', () => {
  expect(slashCommand('what is /etc?')).toBeUndefined()
  expect(slashCommand('//etc')).toBeUndefined()
  expect(plainText('//etc')).toBe('/etc')
  expect(plainText('etc')).toBe('etc')
})

test('the help has a line for each command', () => {
  for (const name of [
    'help',
    'clear',
    'retry',
    'system',
    'model',
    'parallel',
    'serial',
    'reasoning',
    'exit',
  ]) {
    expect(HELP).toMatch(new RegExp(`^/${name} `, 'm'))
    expect(slashCommand(`/${name} x`)?.name).toBe(name)
  }
})
