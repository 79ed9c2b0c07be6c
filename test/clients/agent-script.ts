import { scriptedCheckpoint } from '../support/scripted-checkpoint.ts'

/** Of a model that writes calls as Hermes does: the last message ends the prompt. */
const TEMPLATE =
  '{{ bos_token }}{% if tools %}{{ tools | tojson }}{# calls: <tool_call> #}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}'

const call = (name: string, args: string) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`
const WEATHER = '{"city": "Rome", "degrees": 20}'

/** What test/clients/agent_loops.py relies on, by the last character of the prompt. */
const ANSWERS = {
  '?': [
    '<think>',
    '\nWhere is the user? I have a tool for that.\n',
    '</think>',
    `\n\n${call('get_city', '{}')}`,
  ],
  '!': call('get_weather', '{"city": "Rome"}'),
  '.': 'You have 20 degrees in Rome.',
  $: call('final_result', WEATHER),
  '%': call('Weather', WEATHER),
  '#': WEATHER,
}

/** The folder of the model that agents are tried with. */
export function agentCheckpoint(): string {
  return scriptedCheckpoint({
    template: TEMPLATE,
    answers: ANSWERS,
    markers: { '<think>': false, '</think>': false },
  }).path
}
