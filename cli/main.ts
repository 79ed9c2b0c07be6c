#!/usr/bin/env node
import { AlreadyExplained, explain, UserError } from './explain.ts'
import { createProgram } from './program.ts'

// A reader such as head may have seen enough.
for (const out of [process.stdout, process.stderr]) {
  out.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0)
    throw error
  })
}

createProgram(process.argv[2])
  .then((program) => program.parseAsync())
  .catch((error: unknown) => {
    if (!(error instanceof AlreadyExplained)) console.error(`apar: ${explain(error)}`)
    // As a shell says it of a program that Ctrl-C has ended.
    process.exit(error instanceof UserError && error.code === 'cancelled' ? 130 : 1)
  })
