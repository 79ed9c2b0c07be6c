import Table from 'cli-table3'
import { type Command, Option } from 'commander'
import { type JsonFlag, print, withJson } from '../json.ts'
import { MODEL_ARGUMENT } from '../models/resolve.ts'
import { PLAIN_TABLE, showTable } from '../models/show.ts'
import { decimal, integer } from '../options.ts'
import { saying } from '../progress.ts'
import { writeCard } from '../train/card/card.ts'
import { writeCurve } from '../train/curve.ts'
import { trainingPython } from '../train/environment/environment.ts'
import { showEnvironmentProgress } from '../train/environment/progress.ts'
import { type EstimateFlags, showEstimate, showMedusaEstimate } from '../train/estimate/command.ts'
import { EVALUATE_SETTINGS, type EvaluateFlags, evaluate } from '../train/evaluate.ts'
import { medusa } from '../train/medusa.ts'
import { readRecipe, recipeNames } from '../train/recipe.ts'
import type { RunFlags } from '../train/run-plan.ts'
import { COMMAND_SETTINGS, settingOptions, type TrainCommand } from '../train/settings.ts'
import { sft } from '../train/sft.ts'

export function registerTrain(program: Command): void {
  const train = program
    .command('train')
    .description('tunes models to fork their answers, and trains their Medusa heads (docs/training.md)')
  registerSft(train)
  registerMedusa(train)
  registerEvaluate(train)
  withJson(train.command('curve'))
    .description('draws the losses of runs, and the accuracy of heads')
    .argument('<run...>', 'the --run of apar train sft or medusa')
    .requiredOption('--out <file>', 'an .svg or .png file')
    .action(async (runs: string[], flags: JsonFlag & { out: string }) => {
      await saying('drawing', writeCurve(runs, flags.out))
      print(flags, { out: flags.out }, () => flags.out)
    })
  withJson(train.command('card'))
    .description('writes the model card of a run into the folder that it made: README.md')
    .argument('<run>', 'the --run of apar train sft or medusa')
    .option('--license <name>', 'of the tuned model (default: that of its base, where it says so)')
    .action((run: string, flags: JsonFlag & { license?: string }) => {
      const path = writeCard(run, flags)
      print(flags, { path }, () => path)
    })
  withJson(train.command('recipes')).description('lists the recipes that come with apar').action(listRecipes)
  withJson(train.command('python'))
    .description('prints the Python that trains; makes its environment first where it is missing')
    .option('--python <path>', PYTHON)
    .action(async (flags: JsonFlag & { python?: string }) => {
      const python = await trainingPython({ ...flags, progress: showEnvironmentProgress() })
      print(flags, { python }, () => python)
    })
}

const PYTHON =
  "a Python of your own with torch and transformers (default: $APAR_PYTHON, else apar's environment)"

function registerSft(train: Command): void {
  const command = train
    .command('sft')
    .description('supervised fine-tuning on a folder of apar data build')
    .option(
      '--model <model>',
      `${MODEL_ARGUMENT}; none: from nothing (default: what the data were built for)`,
    )
    .option('--out <folder>', 'where the tuned model, or its adapter, is written')
  addRunOptions(command, 'sft')
  command.action(async (flags: RunFlags & EstimateFlags & { estimate?: true }) => {
    if (flags.estimate) await showEstimate(flags)
    else await sft(flags)
  })
}

function registerMedusa(train: Command): void {
  const command = train
    .command('medusa')
    .description(
      'Medusa heads, which draft the next tokens, on a frozen model and a folder of apar data build',
    )
    .option('--model <model>', `${MODEL_ARGUMENT} (default: what the data were built for)`)
    .option('--adapter <folder>', 'made by apar train sft --lora; it is merged into the model first')
    .option(
      '--out <folder>',
      'where the heads are written: ADAPTER/medusa and MODEL/medusa are found by themselves',
    )
  addRunOptions(command, 'medusa')
  command.action(async (flags: RunFlags & EstimateFlags & { estimate?: true }) => {
    if (flags.estimate) await showMedusaEstimate(flags)
    else await medusa(flags)
  })
}

function addRunOptions(command: Command, kind: TrainCommand): void {
  withJson(command)
    .option('--data <folder>', 'made by apar data build')
    .option('--run <folder>', 'the log and the state of the run (default: OUT-run)')
    .option('--recipe <name>', 'a recipe (apar train recipes) or the path of one; options come before it')
    .option('--resume', 'goes on where the run was stopped, with its settings')
    .option('--nproc <count>', 'processes, one for each GPU, under torchrun (default: 1)', integer(1, 1024))
    .option('--python <path>', PYTHON)
    .option('--dry-run', 'prints the command line of the trainer')
    .option('--debug', 'shows tracebacks of Python')
    .option('--estimate', 'prints the memory and time that a run would take; needs no data, and no weights')
    .option(
      '--gpus <count>',
      'with --estimate: how many (default: those of the recipe, or 8)',
      integer(1, 4096),
    )
    .option('--gpu-memory <GB>', 'with --estimate: of each (default: 80)', decimal(1, 10_000))
    .option(
      '--gpu-tflops <rate>',
      'with --estimate: of a large bf16 product (default: 400)',
      decimal(1, 100_000),
    )
  for (const option of settingOptions(COMMAND_SETTINGS[kind])) {
    command.addOption(option.helpGroup('Settings, also of recipes:'))
  }
}

function registerEvaluate(train: Command): void {
  const command = train
    .command('evaluate')
    .description(
      'losses on held-out data as JSON: per kind, and of branches given their path; or the accuracy of Medusa heads',
    )
    .requiredOption('--data <folder>', 'made by apar data build')
    .requiredOption('--model <model>', MODEL_ARGUMENT)
    .option('--adapter <folder>', 'made by apar train sft --lora')
    .option(
      '--medusa <folder>',
      'heads for this model: how often a target is among their 1 to 10 likeliest tokens',
    )
    .option(
      '--no-markers',
      'rows without [Fork] and [Child], for a base: what a branch loses for the details that it does not see',
    )
    .addOption(new Option('--split <name>', 'which data').choices(['train', 'test']).default('test'))
    .option('--examples <count>', 'at most so many of each kind (default: all)', integer(1, 1e9))
    .option('--out <file>', 'writes the JSON there, too')
    .option('--python <path>', PYTHON)
    .option('--debug', 'shows tracebacks of Python')
  for (const option of settingOptions(EVALUATE_SETTINGS)) command.addOption(option)
  command.action(async (flags: EvaluateFlags) => await evaluate(flags))
}

function listRecipes(flags: JsonFlag): void {
  const recipes = recipeNames().map((name) => ({ ...readRecipe(name), name }))
  const table = new Table({ ...PLAIN_TABLE, head: ['recipe', 'for', 'model', ''] })
  for (const { name, command, model, about } of recipes) table.push([name, command, model, about])
  print(flags, recipes, () => showTable(table))
}
