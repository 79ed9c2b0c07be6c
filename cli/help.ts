import { type Command, Help, type HelpConfiguration, type Option } from 'commander'
import { commandName, runnable } from './settings/command-name.ts'
import { hasOwnVariable } from './settings/environment.ts'

/** Lines that a user may type, by command. */
export const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  serve: [
    'apar serve',
    'apar serve --model smollm2-135m-instruct --state ~/.apar --port 8080',
    'apar serve --model chats.gguf --adapter work/forking --dtype int8',
  ],
  chat: [
    'apar chat --key $KEY',
    'apar chat --key $KEY "Give me five tips for sleeping better."',
    'git diff | apar chat --key $KEY --system "Describe this change."',
    'apar chat --key $KEY --json "Name three rivers." | jq .usage',
  ],
  edge: ['NODE_SECRET=… APAR_ADMIN_KEY=… NODE_HOSTS=*.gpus.example.com apar edge --state ~/.apar'],
  'gpu-node': [
    'apar gpu-node --model models/demo',
    'apar gpu-node --model OWNER/NAME --device cuda --edge https://edge.example',
  ],
  'keys create': ['apar keys create --url https://edge.example --id team-a --tokens-per-day 100000'],
  'keys list': ['apar keys list --url https://edge.example', 'apar keys list --json | jq -r .[].id'],
  'keys rotate': ['apar keys rotate team-a --url https://edge.example'],
  'keys revoke': ['apar keys revoke team-a --url https://edge.example'],
  'keys new': ['apar keys new --id team-a'],
  'feedback export': ['apar feedback export --url https://edge.example > votes.jsonl'],
  'feedback delete': ['apar feedback delete key:team-a --url https://edge.example'],
  'model pull': [
    'apar model pull smollm2-135m-instruct',
    'apar model pull OWNER/NAME --include "*Q8_0.gguf"',
  ],
  'model inspect': ['apar model inspect models/demo', 'apar model inspect OWNER/NAME --json'],
  'model list': ['apar model list'],
  'model remove': ['apar model remove OWNER/NAME'],
  'data build': [
    'apar data build chats/*.jsonl --model smollm2-135m-instruct --fork-tokens 11,12 --out work/data',
  ],
  'data merge': ['apar data merge part-1 part-2 --out work/data'],
  'data stats': ['apar data stats work/data'],
  'data inspect': ['apar data inspect work/data --random'],
  'data prompts': ['apar data prompts --count 6000 --out prompts.jsonl'],
  'data answer': [
    'apar data answer --model smollm2-135m-instruct --prompts prompts.jsonl --out answers.jsonl',
  ],
  'train sft': [
    'apar train sft --data work/data --recipe smollm2-135m-instruct --out work/forking',
    'apar train sft --resume --out work/forking',
    'apar train sft --estimate --recipe vicuna-7b-v1.3 --gpus 8',
  ],
  'train medusa': [
    'apar train medusa --data work/data --adapter work/forking --model smollm2-135m-instruct --out work/medusa',
  ],
  'train evaluate': [
    'apar train evaluate --data work/data --adapter work/forking --model smollm2-135m-instruct',
  ],
  'train curve': ['apar train curve work/forking-run --out loss.svg'],
  'train card': ['apar train card work/forking-run'],
  'train recipes': ['apar train recipes'],
  'train python': ['apar train python'],
  trace: ['apar trace --dataset vicuna_bench --data fastchat/llm_judge/data --model demo'],
  'trace report': ['apar trace report traces/vicuna_bench-demo'],
  'trace show': ['apar trace show 12', 'apar trace show 12 --html answer.html'],
  'trace export': ['apar trace export traces/vicuna_bench-demo --format reference --out vicuna_bench.json'],
  'bench serving': [
    'apar bench serving --model demo --dataset bench/apar/demo-prompts.jsonl --modes serial,parallel',
    'apar bench serving --model demo --dataset random --modes serial,parallel --sweep blocks=100,200,400 --plots plots',
    'apar bench serving --url http://127.0.0.1:8787 --key $KEY --dataset sharegpt.json --prompts 500 --rates 1,2,4 --slo-ttft 500 --slo-tpot 50',
    'apar bench serving --url http://127.0.0.1:8000 --dataset random --input-tokens 64-512 --output-tokens 128 --concurrency 1,8,64',
  ],
  'bench report': ['apar bench report ours=ours.jsonl other=other.jsonl --plots plots'],
  'bench judge': [
    'apar bench judge --answers requests.jsonl#parallel requests.jsonl#serial --data fastchat/llm_judge/data --url https://judge.example --model judge --out judgments.jsonl',
    'apar bench judge --answers model_answer/vicuna-7b.jsonl --dataset mt_bench --data fastchat/llm_judge/data --url https://judge.example --model judge --out ratings.jsonl',
  ],
  'engine build': ['apar engine build'],
  doctor: ['apar doctor', 'apar doctor --port 9000'],
  completion: [
    'source <(apar completion bash)',
    'apar completion fish > ~/.config/fish/completions/apar.fish',
  ],
}

const SETTINGS = `
Every option has a variable, too (apar serve --port: APAR_SERVE_PORT), and a place in the file of --config
({"serve": {"port": 8080}}). The command line comes before variables, these before the file.
Exit codes: 0 done, 1 failed or called wrongly, 130 cancelled by Ctrl-C (docs/terminal.md). --json is for programs.`

/** Adds examples to the help of every command, and says below which other ways there are to set an option. */
export function addExamples(program: Command): void {
  for (const command of runnable(program)) {
    const lines = examplesOf(command)
    if (lines.length > 0)
      command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`)
  }
  program.addHelpText('after', SETTINGS)
}

/** A command that only has others below it shows the first example of each. */
function examplesOf(command: Command): readonly string[] {
  const own = EXAMPLES[commandName(command)]
  return own ?? command.commands.flatMap((below) => examplesOf(below).slice(0, 1))
}

/** Variables that follow the rule which the help of the program states are not named with each option. */
export const withoutVariables: HelpConfiguration = {
  optionDescription: (option: Option) => {
    const shown = hasOwnVariable(option) ? option : Object.create(option, { envVar: { value: undefined } })
    return new Help().optionDescription(shown)
  },
}
