// Adapter {{id}}: drives an agent command that takes its task on standard input and prints JSON lines.
//
// An adapter starts nothing. `prepare` describes the process, the worker starts it, `Reader` reads what it printed.

import { fault, guarded, refused } from './pangolin.js';

// TODO({{name}}): the program and the arguments of your agent.
const PROGRAM = 'fake-agent';
const ARGS = ['--output', 'jsonl'];

/** Longest line that is looked at, in bytes. */
const LINE_BYTES = 1 << 20;

/** The subagent's `params`: program and arguments can be replaced there. */
function params(task) {
  let value;
  try {
    value = JSON.parse(task.attr('params') || '{}');
  } catch (error) {
    throw fault('bad-params', `/params: not JSON (${error.message})`);
  }
  const { program = PROGRAM, args = ARGS } = value ?? {};
  if (typeof program !== 'string') throw fault('bad-params', '/params/program: must be a string');
  if (!Array.isArray(args) || !args.every((arg) => typeof arg === 'string')) {
    throw fault('bad-params', '/params/args: must be a list of strings');
  }
  return { program, args };
}

/** Complete lines out of chunks that may end anywhere, also inside a character. */
class Lines {
  #parts = [];
  #size = 0;

  feed(data, each) {
    let start = 0;
    for (let end; (end = data.indexOf(10, start)) >= 0; start = end + 1) {
      this.#push(data.subarray(start, end));
      this.end(each);
    }
    this.#push(data.subarray(start));
  }

  #push(part) {
    if (part.length === 0) return;
    this.#size += part.length;
    // Of a line over the limit only the fact remains, so that memory stays bounded.
    if (this.#size > LINE_BYTES) this.#parts = [];
    else this.#parts.push(part.slice());
  }

  end(each) {
    if (this.#size > 0 && this.#size <= LINE_BYTES) {
      const line = new Uint8Array(this.#size);
      let at = 0;
      for (const part of this.#parts) {
        line.set(part, at);
        at += part.length;
      }
      each(new TextDecoder().decode(line));
    }
    this.#parts = [];
    this.#size = 0;
  }
}

/** A counter the host accepts: a number from 0 to 2^53. */
const isCount = (value) => typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER;

// TODO({{name}}): the lines that your agent prints. A line that you do not know is no error.
function understand(text, report, seen) {
  if (!text.startsWith('{')) return;
  let event;
  try {
    event = JSON.parse(text);
  } catch {
    return;
  }
  if (event.type === 'session' && typeof event.id === 'string') {
    report.sessionId(event.id);
  } else if (event.type === 'usage') {
    for (const key of ['input', 'output', 'turns', 'cost_usd']) {
      if (isCount(event[key]) && (key !== 'cost_usd' || event[key] <= 1e9)) report.usage(key, event[key]);
    }
    if (typeof event.model === 'string') report.modelUsed(event.model);
    seen.usage = true;
  } else if (event.type === 'text' && typeof event.text === 'string') {
    report.text(event.text);
  } else if (event.type === 'error') {
    seen.error = String(event.message ?? 'no message');
  }
}

class Reader {
  #lines = new Lines();
  #seen = { usage: false, error: undefined };

  constructor(_task) {}

  feed(source, data, to) {
    return guarded(() => {
      if (source === 'out') this.#lines.feed(data, (text) => understand(text, to, this.#seen));
    })();
  }

  finish(exit, to) {
    return guarded(() => {
      this.#lines.end((text) => understand(text, to, this.#seen));
      if (this.#seen.usage) to.usageQuality('exact');
      if (exit.timedOut || exit.signal !== undefined) to.outcome('killed', 'ended from outside');
      else if (this.#seen.error !== undefined) to.outcome('agent-failed', this.#seen.error);
      else if (exit.code === 0) to.outcome('completed', '');
      else to.outcome('agent-failed', `exit code ${exit.code}`);
    })();
  }
}

export const adapter = {
  prepare: guarded((task, out) => {
    const { program, args } = params(task);
    try {
      out.program(program);
    } catch (error) {
      throw refused(error);
    }
    for (const arg of args) out.arg(arg);
    const model = task.model();
    if (model !== undefined) {
      out.arg('--model');
      out.arg(model);
    }
    out.stdin(new TextEncoder().encode(task.prompt()));
  }),
  Reader,
};
