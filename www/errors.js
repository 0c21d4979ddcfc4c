// @ts-check
// What this project throws, and the two sentences that every part needs.

/** Everything that is thrown: a stable code, a sentence, and a sentence saying what to do next. */
export class UnderstudyError extends Error {
  /** @param {string} code @param {string} message @param {string} [hint] */
  constructor(code, message, hint = "") {
    super(message);
    this.name = "UnderstudyError";
    this.code = code;
    this.hint = hint;
  }

  /** @param {any} error @param {string} [code] */
  static from(error, code = "internal") {
    if (error instanceof UnderstudyError) return error;
    return new UnderstudyError(error?.code && typeof error.code === "string" ? error.code : code, error?.message ?? String(error), error?.hint);
  }
}

export const aborted = () => new UnderstudyError("aborted", "Stopped.", "Send again when you like; nothing was lost.");
export const closed = () => new UnderstudyError("no-student", "No student is open.", "Open a student first.");
