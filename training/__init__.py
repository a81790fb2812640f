"""What a run needs beside the step."""
