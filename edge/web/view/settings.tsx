import { setSettings } from '../state/chat.ts'
import { current } from '../state/state.ts'
import { Modal } from './modal.tsx'

interface SettingsDialogProps {
  readonly open: boolean
  readonly onClose: () => void
}

/** The bounds are those of the branch protocol (shared/protocol/request.ts). */
const NUMBERS = [
  { name: 'temperature', label: 'Temperature', note: '0 is greedy', min: 0, max: 2, step: 0.05 },
  { name: 'top_p', label: 'Top p', note: 'share of probability to sample from', min: 0, max: 1, step: 0.01 },
  {
    name: 'max_tokens',
    label: 'Most tokens',
    note: 'of all branches together',
    min: 1,
    max: 1_000_000,
    step: 1,
  },
  {
    name: 'seed',
    label: 'Seed',
    note: 'the same seed gives the same answer',
    min: 0,
    max: 0xffff_ffff,
    step: 1,
  },
] as const

export function SettingsDialog({ open, onClose }: SettingsDialogProps) {
  const { settings } = current.value
  return (
    <Modal title="Settings" open={open} onClose={onClose}>
      <form method="dialog">
        <p class="note">For this conversation, and those that you begin after it.</p>
        <label for="system">System prompt</label>
        <textarea
          id="system"
          rows={4}
          value={settings.system ?? ''}
          onInput={({ currentTarget }) => setSettings({ system: currentTarget.value || undefined })}
        />
        <div class="fields">
          {NUMBERS.map(({ name, label, note, min, max, step }) => (
            <div key={name}>
              <label for={name}>{label}</label>
              <input
                id={name}
                type="number"
                min={min}
                max={max}
                step={step}
                placeholder="model’s own"
                aria-describedby={`${name}-note`}
                value={settings[name] ?? ''}
                onInput={({ currentTarget }) => {
                  const { value, valueAsNumber, validity } = currentTarget
                  if (validity.valid) setSettings({ [name]: value === '' ? undefined : valueAsNumber })
                }}
              />
              <span id={`${name}-note`} class="note">
                {note}
              </span>
            </div>
          ))}
        </div>
        <label class="check">
          <input
            type="checkbox"
            checked={settings.trace ?? false}
            onChange={({ currentTarget }) => setSettings({ trace: currentTarget.checked || undefined })}
          />
          Record what each step of the engine does for an answer, for the trace to download below it
        </label>
        <div class="actions">
          <button type="submit" class="primary">
            Done
          </button>
        </div>
      </form>
    </Modal>
  )
}
