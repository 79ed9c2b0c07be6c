/**
 * Requests in the shapes that coding agents send, written here after what they put on the wire: many tools with all of JSON
 * Schema, system texts in blocks, cache hints, headers of betas, and everything that an earlier turn returned.
 */

const DRAFT = 'http://json-schema.org/draft-07/schema#'
const text = (description: string) => ({ type: 'string', description })

/** Of a terminal agent with Anthropic's API. */
const TERMINAL_TOOLS = [
  ['Task', { description: text('What to do'), prompt: text('The task'), subagent_type: text('Who does it') }],
  [
    'Bash',
    {
      command: text('The command'),
      timeout: { type: 'number', description: 'In ms', maximum: 600_000 },
      run_in_background: { type: 'boolean' },
    },
  ],
  ['Glob', { pattern: text('The pattern'), path: text('Where') }],
  [
    'Grep',
    {
      pattern: text('A regular expression'),
      output_mode: { type: 'string', enum: ['content', 'files_with_matches', 'count'] },
      '-A': { type: 'number' },
      '-i': { type: 'boolean' },
      head_limit: { type: 'number', minimum: 0 },
    },
  ],
  ['Read', { file_path: text('Absolute'), offset: { type: 'number' }, limit: { type: 'number' } }],
  ['Edit', { file_path: text('Absolute'), old_string: text('Old'), new_string: text('New') }],
  ['Write', { file_path: text('Absolute'), content: text('All of it') }],
  [
    'NotebookEdit',
    { notebook_path: text('Absolute'), cell_type: { type: 'string', enum: ['code', 'markdown'] } },
  ],
  ['WebFetch', { url: { type: 'string', format: 'uri' }, prompt: text('What to look for') }],
  [
    'TodoWrite',
    {
      todos: {
        type: 'array',
        items: {
          type: 'object',
          properties: {
            content: { type: 'string', minLength: 1 },
            status: { type: 'string', enum: ['pending', 'in_progress', 'completed'] },
          },
          required: ['content', 'status'],
          additionalProperties: false,
        },
      },
    },
  ],
  [
    'WebSearch',
    {
      query: { type: 'string', minLength: 2 },
      allowed_domains: { type: 'array', items: { type: 'string' } },
    },
  ],
  ['ExitPlanMode', { plan: text('The plan') }],
  [
    'mcp__github__create_issue',
    { title: text('Title'), labels: { type: 'array', items: { type: 'string' }, uniqueItems: true } },
  ],
] as const

export const TERMINAL_HEADERS = {
  'anthropic-version': '2023-06-01',
  'anthropic-beta':
    'claude-code-20250219,oauth-2025-04-20,interleaved-thinking-2025-05-14,fine-grained-tool-streaming-2025-05-14,prompt-caching-scope-2026-01-05',
  'anthropic-dangerous-direct-browser-access': 'true',
  'x-app': 'cli',
  'x-stainless-lang': 'js',
  'x-stainless-retry-count': '0',
  'user-agent': 'claude-cli/2.1.0 (external, cli)',
}

/** `turns`: behind the first question. */
export function terminalRequest(question: string, turns: readonly object[] = []) {
  const cached = { cache_control: { type: 'ephemeral' } }
  const reminder = '<system-reminder>\nAs you answer, you can use the context below.\n</system-reminder>\n'
  return {
    model: 'scripted',
    max_tokens: 32_000,
    temperature: 1,
    stream: true,
    system: [
      { type: 'text', text: "You are an agent that works in the user's terminal.", ...cached },
      {
        type: 'text',
        text: `\nBe brief.\n<env>\nWorking directory: /home/u\n</env>\n`,
        cache_control: { type: 'ephemeral', ttl: '1h' },
      },
    ],
    messages: [
      {
        role: 'user',
        content: [
          { type: 'text', text: reminder },
          { type: 'text', text: question, ...cached },
        ],
      },
      ...turns,
    ],
    tools: TERMINAL_TOOLS.map(([name, properties]) => ({
      name,
      description: `The tool ${name}.\n\nUsage:\n- Use it with care.`,
      input_schema: {
        $schema: DRAFT,
        type: 'object',
        properties,
        required: Object.keys(properties).slice(0, 1),
        additionalProperties: false,
      },
    })),
    metadata: { user_id: 'user_0123_account__session_4567' },
    thinking: { type: 'enabled', budget_tokens: 31_999 },
    context_management: { edits: [{ type: 'clear_thinking_20251015', keep: 'all' }] },
  }
}

/** Of a terminal agent with OpenAI's Responses. */
export const SHELL_HEADERS = {
  originator: 'codex_cli_rs',
  'openai-beta': 'responses=experimental',
  conversation_id: '0199c4b2-0000-7000-8000-000000000000',
  session_id: '0199c4b2-0000-7000-8000-000000000000',
  'user-agent': 'codex_cli_rs/0.60.0 (Linux; x86_64) xterm-256color',
  accept: 'text/event-stream',
}

export function shellRequest(question: string, items: readonly object[] = []) {
  const said = (role: string, content: string) => {
    return { type: 'message', role, content: [{ type: 'input_text', text: content }] }
  }
  return {
    model: 'scripted',
    instructions: 'You are a coding agent in a terminal. Be brief.',
    input: [
      said('developer', '<permissions instructions>\nNo network.\n</permissions instructions>'),
      said('user', '# AGENTS.md\n\nRun the tests.'),
      said('user', '<environment_context>\n  <cwd>/home/u</cwd>\n</environment_context>'),
      said('user', question),
      ...items,
    ],
    tools: [
      {
        type: 'function',
        name: 'shell',
        description: 'Runs a command, and returns its output.',
        strict: false,
        parameters: {
          type: 'object',
          properties: {
            command: { type: 'array', items: { type: 'string' }, description: 'The command' },
            workdir: text('Where'),
            timeout_ms: { type: 'number' },
            with_escalated_permissions: { type: 'boolean' },
          },
          required: ['command'],
          additionalProperties: false,
        },
      },
      {
        type: 'function',
        name: 'update_plan',
        description: 'Updates the plan.',
        strict: false,
        parameters: {
          type: 'object',
          properties: {
            explanation: { type: 'string' },
            plan: {
              type: 'array',
              items: {
                type: 'object',
                properties: { status: { type: 'string' }, step: { type: 'string' } },
                required: ['step', 'status'],
                additionalProperties: false,
              },
            },
          },
          required: ['plan'],
          additionalProperties: false,
        },
      },
      {
        type: 'function',
        name: 'view_image',
        description: 'Attaches an image.',
        strict: false,
        parameters: {
          type: 'object',
          properties: { path: text('Where') },
          required: ['path'],
          additionalProperties: false,
        },
      },
      { type: 'web_search', external_web_access: false },
    ],
    tool_choice: 'auto',
    parallel_tool_calls: false,
    reasoning: { effort: 'medium', summary: 'auto' },
    store: false,
    stream: true,
    include: ['reasoning.encrypted_content'],
    client_metadata: { 'x-codex-installation-id': '0199c4b2-0000-7000-8000-000000000000' },
    prompt_cache_key: '0199c4b2-0000-7000-8000-000000000000',
    text: { verbosity: 'medium' },
  }
}
