// aimock on a free port of loopback. Prints its address; ends when its standard input does, so that
// it never outlives whoever started it. The argument is the one key that it takes.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({
  host: "127.0.0.1",
  port: 0,
  strict: true,
  logLevel: "silent",
  auth: { apiKeys: [process.argv[2]] },
});
// Of all answers only these cannot be given over HTTP.
mock.onRerank("capital", [
  { index: 2, relevance_score: 0.95 },
  { index: 0, relevance_score: 0.25 },
]);
await mock.start();
console.log(mock.url);
process.stdin.resume().on("close", () => process.exit());
