// @ts-check
// Short everyday rows that no traces are about. The student is measured on them before and after teaching: what it does
// worse on them afterwards, it has forgotten. They are never trained on. What counts is its own way of answering, so that it is
// asked before it is taught; the answers below stand in where it cannot be.

/** @type {[string, string][]} */
const PAIRS = [
  ["Hello.", "Hello! What can I do for you?"],
  ["Hi, how are you?", "I am well, thank you. What can I do for you?"],
  ["Good morning!", "Good morning! How can I help?"],
  ["Thank you very much.", "You are welcome."],
  ["Goodbye.", "Goodbye! Come back when you like."],
  ["Who are you?", "I am a small language model that runs inside this page, on your own machine."],
  ["What can you do?", "I can answer short questions, do small sums, sort lists and write short texts."],
  ["Are you connected to the internet?", "No. I run in this page, and nothing that you write leaves your machine."],
  ["Where do my prompts go?", "Nowhere. They stay on this machine, in this page."],
  ["What is distillation?", "Distillation is training a small student with signals from a stronger teacher: its answers, its reasoning or its probabilities."],
  ["What is quantization?", "Quantization stores each weight in fewer bits, so that the same model takes less memory."],
  ["What is a teacher?", "The teacher is the large model whose behaviour the student learns."],
  ["What is a student?", "The student is the small model that learns from the teacher."],
  ["What is an adapter?", "An adapter is a small file with the change that training made; it lies beside the weights."],
  ["What is 2 + 3?", "2 + 3 = 5."],
  ["What is 12 + 30?", "12 + 30 = 42."],
  ["What is 9 - 4?", "9 - 4 = 5."],
  ["What is 6 times 7?", "6 times 7 is 42."],
  ["Sort these numbers: 7, 2, 5", "2, 5, 7"],
  ["Sort these words: pear, apple, fig", "apple, fig, pear"],
  ["Name three animals.", "A fox, a heron and a horse."],
  ["Name two colours.", "Blue and green."],
  ["How many days has a week?", "A week has seven days."],
  ["How many minutes has an hour?", "An hour has 60 minutes."],
  ["Which day comes after Monday?", "After Monday comes Tuesday."],
  ["What is the opposite of warm?", "The opposite of warm is cold."],
  ["Write a short sentence about the sea.", "The sea was calm, and a small boat came home."],
  ["Make JSON with the keys name and age: name Nora, age 31", "{\"name\": \"Nora\", \"age\": 31}"],
  ["Spell the word lamp.", "l-a-m-p"],
  ["Say yes in one word.", "Yes."],
  ["Can a small model know everything?", "No. A small model knows less of the world than a large one, and it can be wrong."],
  ["Tell me a very short story.", "A fox found a lantern in the snow. She carried it home, and the night was bright."],
];

export const GENERIC = PAIRS.map(([question, answer]) => [{ role: "user", content: question }, { role: "assistant", content: answer }]);

/** Every second question is asked, and an answer is cut here. */
const EVERY = 2;
const LONGEST = 96;
/** With fewer whole answers than this the rows above are the better measure. */
const ENOUGH = 6;

/**
 * The student's own likeliest answers to everyday questions, as chats; without its adapters, since it is taught without them.
 * @param {any} student @param {{ signal?: AbortSignal }} [options] @returns {Promise<any[]>}
 */
export async function ownAnswers(student, { signal } = {}) {
  const attached = student.adapters.map((/** @type {any} */ adapter) => ({ adapter, scale: adapter.scale })).filter((/** @type {any} */ { scale }) => scale !== 0);
  try {
    for (const { adapter } of attached) await adapter.setScale(0);
    const rows = [];
    for (const [question] of PAIRS.filter((_, number) => number % EVERY === 0)) {
      const messages = [{ role: "user", content: question }];
      const { choices } = await student.chat.completions.create({ messages, temperature: 0, max_tokens: LONGEST }, { signal });
      const { message, finish_reason: reason } = choices[0];
      if (reason === "stop" && message.content) rows.push([...messages, message]);
    }
    return rows.length < ENOUGH ? GENERIC : rows;
  } catch (/** @type {any} */ error) {
    // A student that was closed or lost meanwhile is still taught.
    if (signal?.aborted) throw error;
    return GENERIC;
  } finally {
    for (const { adapter, scale } of attached) await adapter.setScale(scale).catch(() => {});
  }
}
